/**
 * @file
 * The one exception of the core: a status, a sentence and, for files, a path. The addon turns it
 * into a JavaScript error; nothing else leaves the core.
 */
#pragma once

#include <stdexcept>
#include <string>

#include "core/backend.h"

namespace sluice {

/** Statuses that no backend returns. */
enum : int { kStatusIo = 100, kStatusArgument = 101 };

/** Name of a status in JavaScript: `out-of-memory`, `bad-command`, ... */
const char *status_code(int status);

/** printf into a string. */
[[gnu::format(printf, 1, 2)]] std::string format(const char *pattern, ...);

/** printf into a buffer, for `error` arguments of the backend table. Returns `status`. */
[[gnu::format(printf, 4, 5)]] int fail(int status, char *error, size_t capacity,
                                       const char *pattern, ...);

class Error : public std::runtime_error {
 public:
  Error(int status, const std::string &message, std::string path = {})
      : std::runtime_error(message), status(status), path(std::move(path)) {}
  int status;
  std::string path; ///< of the file, where status is kStatusIo
};

} // namespace sluice
