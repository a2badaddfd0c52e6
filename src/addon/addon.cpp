/**
 * @file
 * The functions of the addon; their contract is the interface Addon of lib/runtime/addon-types.ts.
 */
#include <dlfcn.h>
#include <napi.h>

#include <atomic>
#include <chrono>

#include "addon/arguments.h"
#include "addon/environment.h"
#include "addon/job.h"
#include "addon/objects.h"
#include "core/backends.h"
#include "core/packing.h"
#include "core/system.h"
#include "core/thread_pool.h"
#include "core/tile_pool.h"
#include "cpu/kernels.h"

namespace sluice {
namespace {

using Napi::CallbackInfo;

Napi::Value devices(const CallbackInfo &info) {
  return guarded(info.Env(), [&] {
    Napi::Array out = Napi::Array::New(info.Env());
    for (const Device &device : sluice::devices()) {
      sluice_device_info found{};
      if (device.backend->device_info(device.index, &found) != SLUICE_OK) continue;
      const auto number = [&](uint64_t value) {
        return Napi::Number::New(info.Env(), double(value));
      };
      Napi::Object item = Napi::Object::New(info.Env());
      item.Set("id", device.id());
      item.Set("name", std::string(found.name));
      item.Set("detail", std::string(found.detail));
      item.Set("memoryBytes", number(found.memory_bytes));
      item.Set("freeBytes", number(found.free_bytes));
      item.Set("tileBytes", number(found.tile_bytes));
      item.Set("wgmma", found.wgmma != 0);
      out.Set(out.Length(), item);
    }
    return out;
  });
}

Napi::Value missing(const CallbackInfo &info) {
  return guarded(info.Env(), [&] {
    Napi::Object out = Napi::Object::New(info.Env());
    for (const MissingBackend &backend : missing_backends()) out.Set(backend.name, backend.why);
    return out;
  });
}

Napi::Value cpu(const CallbackInfo &info) {
  return guarded(info.Env(), [&] {
    int32_t count = 0;
    const Kernels *const *const tables = available_kernels(count);
    Napi::Array available = Napi::Array::New(info.Env());
    for (int32_t i = 0; i < count; ++i) available.Set(uint32_t(i), std::string(tables[i]->name));
    Napi::Object out = Napi::Object::New(info.Env());
    out.Set("available", available);
    out.Set("selected", std::string(kernels().name));
    out.Set("bf16", Napi::Boolean::New(info.Env(), computes_bf16_products()));
    out.Set("threads", Napi::Number::New(info.Env(), cpu_threads()));
    out.Set("model", cpu_model());
    return out;
  });
}

Napi::Value pool(const CallbackInfo &info) {
  const PoolStats stats = pool_stats();
  Napi::Object out = Napi::Object::New(info.Env());
  out.Set("bytes", Napi::Number::New(info.Env(), double(stats.bytes)));
  out.Set("peakBytes", Napi::Number::New(info.Env(), double(stats.peak_bytes)));
  out.Set("blocks", Napi::Number::New(info.Env(), double(stats.blocks)));
  return out;
}

Napi::Value create_block(const CallbackInfo &info) {
  return guarded(info.Env(), [&] {
    const Device device = find_device(string_argument(info[0], "createBlock: device"));
    const uint64_t bytes = bytes_argument(info[1], "createBlock: bytes");
    const bool host = info[2].IsBoolean() && info[2].As<Napi::Boolean>().Value();
    return NativeBlock::make(info.Env(), std::make_shared<Block>(device, bytes, host));
  });
}

Napi::Value open_file(const CallbackInfo &info) {
  return guarded(info.Env(), [&] {
    const std::string path = string_argument(info[0], "openFile: path");
    if (path.find('\0') != std::string::npos) {
      throw Error(kStatusArgument, "openFile: expected a path, got one with a zero byte");
    }
    return NativeFile::make(info.Env(), std::make_shared<MappedFile>(path));
  });
}

PackJob pack_job(Napi::Value value, size_t index) {
  const std::string where = format("pack: job %zu", index);
  if (!value.IsObject()) throw Error(kStatusArgument, where + ": expected an object");
  const Napi::Object job = value.As<Napi::Object>();
  const auto number = [&](const char *name) {
    return bytes_argument(property(job, name), where + ", " + name);
  };
  PackJob out;
  out.source_offset = number("sourceOffset");
  out.source_bytes = number("sourceBytes");
  out.dtype = DType(integer_argument(property(job, "dtype"), where + ", dtype", 0, 2));
  out.form = PackForm(integer_argument(property(job, "form"), where + ", form", 0, 5));
  out.outputs = int64_t(number("outputs"));
  out.inputs = int64_t(number("inputs"));
  out.taps = int64_t(number("taps"));
  out.destination = number("destination");
  const Napi::Value source = property(job, "file");
  if (!source.IsTypedArray() && !source.IsDataView()) {
    out.file = NativeFile::of(source, where.c_str());
    return out;
  }
  const Span span = view_argument(source, where + ", file");
  if (out.source_offset > span.bytes || out.source_bytes > span.bytes - out.source_offset) {
    throw Error(kStatusArgument,
                where + format(", file: expected a range inside the view's %zu bytes", span.bytes));
  }
  const uint8_t *const begin = static_cast<const uint8_t *>(span.data) + out.source_offset;
  out.values.assign(begin, begin + out.source_bytes);
  out.source_offset = 0;
  return out;
}

std::vector<PackJob> pack_jobs(Napi::Value value) {
  if (!value.IsArray()) throw Error(kStatusArgument, "pack: expected an array of jobs");
  const Napi::Array list = value.As<Napi::Array>();
  std::vector<PackJob> jobs;
  for (uint32_t i = 0; i < list.Length(); ++i) {
    const Napi::HandleScope scope(value.Env());
    jobs.push_back(pack_job(list.Get(i), i));
  }
  return jobs;
}

Napi::Value open_weights(const CallbackInfo &info) {
  return guarded(info.Env(), [&] {
    auto jobs = std::make_shared<const std::vector<PackJob>>(pack_jobs(info[0]));
    check_jobs(*jobs);
    return NativeWeights::make(info.Env(), std::move(jobs));
  });
}

Napi::Value pack(const CallbackInfo &info) {
  return guarded(info.Env(), [&] {
    std::shared_ptr<Block> block = NativeBlock::of(info[0], "pack: block");
    std::vector<PackJob> jobs = pack_jobs(info[1]);
    const int32_t threads = threads_argument(info[2], "pack");
    const Napi::Function progress = function_argument(info[3], "pack: onProgress");
    auto packing = std::make_shared<Packing>(std::move(block), std::move(jobs), threads);
    Job::Work work = [packing = std::move(packing)](Control &control) -> Job::Outcome {
      const uint64_t written = packing->execute(control);
      return [written](Napi::Env env) -> Napi::Value {
        return Napi::Number::New(env, double(written));
      };
    };
    return Job::start(info.Env(), std::move(work), progress);
  });
}

Napi::Value load_stream(const CallbackInfo &info) {
  return guarded(info.Env(), [&] {
    const Device device = find_device(string_argument(info[0], "loadStream: device"));
    const Napi::Value words = info[1];
    if (!words.IsTypedArray() ||
        words.As<Napi::TypedArray>().TypedArrayType() != napi_int32_array) {
      throw Error(kStatusArgument, "loadStream: words: expected an Int32Array");
    }
    const Span span = view_argument(words, "loadStream: words");
    std::vector<uint64_t> slots = byte_list_argument(info[2], "loadStream: slotBytes");
    if (slots.size() < size_t(kSlotBound)) {
      throw Error(kStatusArgument,
                  format("loadStream: slotBytes: expected the arena's, the weights' and the host's "
                         "bytes at least, got %zu sizes",
                         slots.size()));
    }
    return NativeStream::make(
        info.Env(), std::make_shared<Stream>(device, static_cast<const int32_t *>(span.data),
                                             span.bytes / sizeof(int32_t), std::move(slots)));
  });
}

struct MultiplyAdds {
  int64_t rounds;
  std::atomic<int64_t> operations{0};
};

int multiply_adds_share(void *context, int32_t, int32_t) {
  MultiplyAdds &work = *static_cast<MultiplyAdds *>(context);
  work.operations.fetch_add(kernels().multiply_adds(work.rounds));
  return SLUICE_OK;
}

Napi::Value multiply_adds(const CallbackInfo &info) {
  return guarded(info.Env(), [&] {
    const int32_t threads = threads_argument(info[0], "multiplyAdds");
    const int64_t rounds = int64_t(integer_argument(info[1], "multiplyAdds: rounds", 1, INT32_MAX));
    Job::Work work = [threads, rounds](Control &) -> Job::Outcome {
      MultiplyAdds work{rounds};
      ThreadPool &pool = ThreadPool::instance();
      pool.run(threads, multiply_adds_share, &work); // workers awake, clock up
      work.operations.store(0);
      const auto begin = std::chrono::steady_clock::now();
      pool.run(threads, multiply_adds_share, &work);
      const double nanoseconds =
          std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - begin)
              .count();
      const double operations = double(work.operations.load());
      return [nanoseconds, operations](Napi::Env env) -> Napi::Value {
        Napi::Object out = Napi::Object::New(env);
        out.Set("operations", Napi::Number::New(env, operations));
        out.Set("nanoseconds", Napi::Number::New(env, nanoseconds));
        return out;
      };
    };
    return Job::start(info.Env(), std::move(work), Napi::Function());
  });
}

/** Worker threads of the pool live in this library's code, so that it must stay when a worker
 * environment unloads it. */
void stay_loaded() {
  Dl_info self{};
  if (dladdr(reinterpret_cast<const void *>(&stay_loaded), &self) && self.dli_fname) {
    dlopen(self.dli_fname, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  }
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  stay_loaded();
  Environment::create(env);
  NativeBlock::define(env);
  NativeFile::define(env);
  NativeWeights::define(env);
  NativeStream::define(env);
  exports.Set("version", SLUICE_VERSION);
  exports.Set("commandVersion", Napi::Number::New(env, kCommandVersion));
  exports.Set("backendVersion", Napi::Number::New(env, SLUICE_BACKEND_VERSION));
  const auto function = [&](const char *name, Napi::Value (*body)(const CallbackInfo &)) {
    exports.Set(name, Napi::Function::New(env, body, name));
  };
  function("devices", devices);
  function("missing", missing);
  function("cpu", cpu);
  function("pool", pool);
  function("createBlock", create_block);
  function("openFile", open_file);
  function("openWeights", open_weights);
  function("pack", pack);
  function("loadStream", load_stream);
  function("multiplyAdds", multiply_adds);
  return exports;
}

} // namespace
} // namespace sluice

static Napi::Object init_addon(Napi::Env env, Napi::Object exports) {
  return sluice::init(env, exports);
}

NODE_API_MODULE(NODE_GYP_MODULE_NAME, init_addon)
