/**
 * @file
 * Reads JavaScript arguments with checks, and turns errors of the core into JavaScript errors.
 */
#pragma once

#include <cstdint>
#include <exception>
#include <new>
#include <string>
#include <vector>

#include <napi.h>

#include "core/error.h"

namespace sluice {

/** An Error with `code` and, for files, `path`. */
Napi::Error to_javascript(Napi::Env env, const Error &error);

/** The exception being handled, as an Error; call it in a catch block. */
Error current_error();

/** Runs the body of a native function: whatever it throws leaves as a JavaScript error. */
template <class Body>
auto guarded(Napi::Env env, Body &&body) -> decltype(body()) {
  try {
    return body();
  } catch (const Napi::Error &) {
    throw;
  } catch (...) {
    throw to_javascript(env, current_error());
  }
}

/** An integer in [low, high]; high at most 2^53. */
uint64_t integer_argument(Napi::Value value, const std::string &where, uint64_t low, uint64_t high);

/** A count of bytes: an integer in [0, 2^53). */
uint64_t bytes_argument(Napi::Value value, const std::string &where);

/** Shares of work that a run is cut into: 1 to 1024. */
int32_t threads_argument(Napi::Value value, const char *where);

std::string string_argument(Napi::Value value, const std::string &where);

/** The numbers of a Float64Array, each a count of bytes. */
std::vector<uint64_t> byte_list_argument(Napi::Value value, const std::string &where);

/** An optional function: empty for undefined and null. */
Napi::Function function_argument(Napi::Value value, const std::string &where);

/** Memory of a typed array or DataView, valid while the call lasts. */
struct Span {
  void *data;
  size_t bytes;
};
Span view_argument(Napi::Value value, const std::string &where);

/** Property of an object, present or not. */
Napi::Value property(Napi::Object object, const char *name);

} // namespace sluice
