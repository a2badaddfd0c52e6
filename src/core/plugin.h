/**
 * @file
 * Loads a backend from a library beside the addon. The library is tried in a child process first,
 * so that one that crashes, hangs or sits on a broken driver leaves this process as it was.
 */
#pragma once

#include <string>

#include "core/backend.h"

namespace sluice {

struct PluginName {
  const char *backend;  ///< "cuda"
  const char *variable; ///< environment variable that names a library instead
  const char *file;     ///< name beside the addon
};

struct Plugin {
  const sluice_backend *backend = nullptr;
  std::string why; ///< why there is none; a sentence
};

/** Looks for the library, tries it and loads it; never throws for a library that is missing or bad.
 */
Plugin load_plugin(const PluginName &name);

} // namespace sluice
