/**
 * @file
 * The backends of this process: the CPU's, built in, and the CUDA plug-in where one can be used.
 */
#pragma once

#include <string>
#include <vector>

#include "core/backend.h"

namespace sluice {

/** A backend and the index of one of its devices. */
struct Device {
  const sluice_backend *backend = nullptr;
  int32_t index = 0;
  bool is_cpu() const { return backend == sluice_cpu_backend(); }
  /** `cpu`, `cuda:0`. */
  std::string id() const;
};

/** Every device that can be used now, the CPU first. */
std::vector<Device> devices();

/** The device of an id; throws Error (argument) that lists the ids there are. */
Device find_device(const std::string &id);

/** Backends without a device. */
struct MissingBackend {
  std::string name, why;
};
std::vector<MissingBackend> missing_backends();

} // namespace sluice
