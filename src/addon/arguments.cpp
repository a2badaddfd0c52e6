#include "addon/arguments.h"

#include <cmath>

namespace sluice {
namespace {

constexpr uint64_t kMaxSafe = (uint64_t(1) << 53) - 1;

/** What a value is, for messages; never runs JavaScript. */
std::string words_for(Napi::Value value) {
  switch (value.Type()) {
    case napi_undefined:
      return "undefined";
    case napi_null:
      return "null";
    case napi_boolean:
      return "a boolean";
    case napi_number:
      return format("%.17g", value.As<Napi::Number>().DoubleValue());
    case napi_string:
      return "a string";
    case napi_symbol:
      return "a symbol";
    case napi_function:
      return "a function";
    case napi_bigint:
      return "a bigint";
    default:
      return "an object";
  }
}

[[noreturn]] void refuse(const std::string &where, const char *expected, Napi::Value value) {
  throw Error(kStatusArgument, where + ": expected " + expected + ", got " + words_for(value));
}

/** Whether a number is an integer in [low, high]. */
bool is_count(double number, uint64_t low, uint64_t high) {
  return number >= double(low) && number <= double(high) && number == std::floor(number);
}

} // namespace

Napi::Error to_javascript(Napi::Env env, const Error &error) {
  Napi::Error out = Napi::Error::New(env, error.what());
  out.Set("code", Napi::String::New(env, status_code(error.status)));
  if (!error.path.empty()) out.Set("path", Napi::String::New(env, error.path));
  return out;
}

Error current_error() {
  try {
    throw;
  } catch (const Error &error) {
    return error;
  } catch (const std::bad_alloc &) {
    return {SLUICE_OUT_OF_MEMORY, "sluice: expected memory, got none"};
  } catch (const std::system_error &error) {
    return {SLUICE_OUT_OF_MEMORY, format("sluice: expected a thread, got: %s", error.what())};
  } catch (const std::exception &error) {
    return {kStatusArgument, format("sluice: %s", error.what())};
  } catch (...) {
    return {kStatusArgument, "sluice: an error of unknown kind"};
  }
}

uint64_t integer_argument(Napi::Value value, const std::string &where, uint64_t low,
                          uint64_t high) {
  const std::string expected =
      format("an integer from %llu to %llu", (unsigned long long)low, (unsigned long long)high);
  if (!value.IsNumber()) refuse(where, expected.c_str(), value);
  const double number = value.As<Napi::Number>().DoubleValue();
  if (!is_count(number, low, high)) refuse(where, expected.c_str(), value);
  return uint64_t(number);
}

uint64_t bytes_argument(Napi::Value value, const std::string &where) {
  return integer_argument(value, where, 0, kMaxSafe);
}

int32_t threads_argument(Napi::Value value, const char *where) {
  return int32_t(integer_argument(value, std::string(where) + ": threads", 1, 1024));
}

std::string string_argument(Napi::Value value, const std::string &where) {
  if (!value.IsString()) refuse(where, "a string", value);
  return value.As<Napi::String>().Utf8Value();
}

std::vector<uint64_t> byte_list_argument(Napi::Value value, const std::string &where) {
  if (!value.IsTypedArray() ||
      value.As<Napi::TypedArray>().TypedArrayType() != napi_float64_array) {
    refuse(where, "a Float64Array", value);
  }
  const Napi::Float64Array array = value.As<Napi::Float64Array>();
  std::vector<uint64_t> out;
  for (size_t i = 0; i < array.ElementLength(); ++i) {
    const double number = array[i];
    if (!is_count(number, 0, kMaxSafe)) {
      throw Error(kStatusArgument,
                  where + format("[%zu]: expected a count of bytes, got %.17g", i, number));
    }
    out.push_back(uint64_t(number));
  }
  return out;
}

Napi::Function function_argument(Napi::Value value, const std::string &where) {
  if (value.IsUndefined() || value.IsNull()) return {};
  if (!value.IsFunction()) refuse(where, "a function", value);
  return value.As<Napi::Function>();
}

Span view_argument(Napi::Value value, const std::string &where) {
  Span span{nullptr, 0};
  bool known = false;
  // The C calls take views of shared memory too; the classes insist on an ArrayBuffer.
  if (value.IsTypedArray()) {
    napi_typedarray_type type;
    size_t length = 0;
    known = napi_get_typedarray_info(value.Env(), value, &type, &length, &span.data, nullptr,
                                     nullptr) == napi_ok;
    static constexpr uint8_t kSizes[] = {1, 1, 1, 2, 2, 4, 4, 4, 8, 8, 8, 2};
    known = known && size_t(type) < sizeof kSizes;
    span.bytes = known ? length * kSizes[type] : 0;
  } else if (value.IsDataView()) {
    known = napi_get_dataview_info(value.Env(), value, &span.bytes, &span.data, nullptr, nullptr) ==
            napi_ok;
  }
  if (!known) refuse(where, "a typed array or DataView", value);
  return span;
}

Napi::Value property(Napi::Object object, const char *name) { return object.Get(name); }

} // namespace sluice
