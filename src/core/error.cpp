#include "core/error.h"

#include <cstdarg>
#include <cstdio>

namespace sluice {

const char *status_code(int status) {
  switch (status) {
    case SLUICE_OUT_OF_MEMORY:
      return "out-of-memory";
    case SLUICE_BAD_COMMAND:
      return "bad-command";
    case SLUICE_BAD_DATA:
      return "bad-data";
    case SLUICE_DEVICE_LOST:
      return "device-lost";
    case SLUICE_ABORTED:
      return "aborted";
    case kStatusIo:
      return "io";
    default:
      return "argument";
  }
}

std::string format(const char *pattern, ...) {
  char buffer[1024];
  va_list arguments;
  va_start(arguments, pattern);
  vsnprintf(buffer, sizeof buffer, pattern, arguments);
  va_end(arguments);
  return buffer;
}

int fail(int status, char *error, size_t capacity, const char *pattern, ...) {
  va_list arguments;
  va_start(arguments, pattern);
  if (capacity > 0) vsnprintf(error, capacity, pattern, arguments);
  va_end(arguments);
  return status;
}

} // namespace sluice
