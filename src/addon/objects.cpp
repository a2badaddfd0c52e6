#include "addon/objects.h"

#include "addon/arguments.h"
#include "addon/environment.h"
#include "addon/job.h"
#include "core/machine.h"

namespace sluice {
namespace {

constexpr napi_type_tag kBlockTag = {0x5b1f7c0f3a524c11, 0x9d0c62a4f7e8b301};
constexpr napi_type_tag kFileTag = {0x5b1f7c0f3a524c12, 0x9d0c62a4f7e8b302};
constexpr napi_type_tag kWeightsTag = {0x5b1f7c0f3a524c13, 0x9d0c62a4f7e8b303};

/** Makes an object of one of the classes below, which takes `content` in its constructor. */
Napi::Object make_object(Napi::Env env, const Napi::FunctionReference &constructor,
                         std::shared_ptr<void> content) {
  Environment::of(env).pending = std::move(content);
  return constructor.New({});
}

template <class Content>
std::shared_ptr<Content> take_pending(Napi::Env env) {
  std::shared_ptr<void> content = std::move(Environment::of(env).pending);
  if (!content) throw Napi::TypeError::New(env, "Illegal constructor");
  return std::static_pointer_cast<Content>(content);
}

bool is_tagged(Napi::Value value, const napi_type_tag &tag) {
  return value.IsObject() && value.As<Napi::Object>().CheckTypeTag(&tag);
}

} // namespace

NativeBlock::NativeBlock(const Napi::CallbackInfo &info)
    : ObjectWrap(info), block_(take_pending<Block>(info.Env())) {
  info.This().As<Napi::Object>().TypeTag(&kBlockTag);
  bytes_ = double(block_->bytes());
  tile_bytes_ = double(block_->tile_bytes());
}

void NativeBlock::define(Napi::Env env) {
  Environment::of(env).block_class = Napi::Persistent(DefineClass(
      env, "NativeBlock",
      {InstanceAccessor<&NativeBlock::bytes>("bytes"),
       InstanceAccessor<&NativeBlock::tile_bytes>("tileBytes"),
       InstanceMethod<&NativeBlock::write>("write"), InstanceMethod<&NativeBlock::read>("read"),
       InstanceMethod<&NativeBlock::fill>("fill"),
       InstanceMethod<&NativeBlock::last_different>("lastDifferent"),
       InstanceMethod<&NativeBlock::release>("release")}));
}

Napi::Object NativeBlock::make(Napi::Env env, std::shared_ptr<Block> block) {
  return make_object(env, Environment::of(env).block_class, std::move(block));
}

std::shared_ptr<Block> NativeBlock::of(Napi::Value value, const char *where) {
  if (!is_tagged(value, kBlockTag)) {
    throw Error(kStatusArgument, format("%s: expected a block", where));
  }
  NativeBlock &self = *Unwrap(value.As<Napi::Object>());
  self.live(where);
  return self.block_;
}

Block &NativeBlock::live(const char *where) const {
  if (block_) return *block_;
  throw Error(kStatusArgument,
              format("%s: expected a block in use, got one that was released", where));
}

Napi::Value NativeBlock::bytes(const Napi::CallbackInfo &info) {
  return Napi::Number::New(info.Env(), bytes_);
}

Napi::Value NativeBlock::tile_bytes(const Napi::CallbackInfo &info) {
  return Napi::Number::New(info.Env(), tile_bytes_);
}

void NativeBlock::write(const Napi::CallbackInfo &info) {
  guarded(info.Env(), [&] {
    const uint64_t offset = bytes_argument(info[0], "write: offset");
    const Span data = view_argument(info[1], "write: data");
    live("write").write(offset, data.data, data.bytes);
  });
}

void NativeBlock::read(const Napi::CallbackInfo &info) {
  guarded(info.Env(), [&] {
    const uint64_t offset = bytes_argument(info[0], "read: offset");
    const Span data = view_argument(info[1], "read: data");
    live("read").read(offset, data.data, data.bytes);
  });
}

void NativeBlock::fill(const Napi::CallbackInfo &info) {
  guarded(info.Env(), [&] {
    const uint64_t offset = bytes_argument(info[0], "fill: offset");
    const uint64_t bytes = bytes_argument(info[1], "fill: bytes");
    const uint64_t value = integer_argument(info[2], "fill: value", 0, 255);
    live("fill").fill(offset, bytes, uint8_t(value));
  });
}

Napi::Value NativeBlock::last_different(const Napi::CallbackInfo &info) {
  return guarded(info.Env(), [&] {
    const uint64_t from = bytes_argument(info[0], "lastDifferent: from");
    const uint64_t value = integer_argument(info[1], "lastDifferent: value", 0, 255);
    const uint64_t last = live("lastDifferent").last_different(from, uint8_t(value));
    return Napi::Number::New(info.Env(), double(last));
  });
}

void NativeBlock::release(const Napi::CallbackInfo &) { block_.reset(); }

NativeFile::NativeFile(const Napi::CallbackInfo &info)
    : ObjectWrap(info), file_(take_pending<MappedFile>(info.Env())) {
  info.This().As<Napi::Object>().TypeTag(&kFileTag);
  bytes_ = double(file_->bytes());
}

void NativeFile::define(Napi::Env env) {
  Environment::of(env).file_class =
      Napi::Persistent(DefineClass(env, "NativeFile",
                                   {InstanceAccessor<&NativeFile::bytes>("bytes"),
                                    InstanceMethod<&NativeFile::close>("close")}));
}

Napi::Object NativeFile::make(Napi::Env env, std::shared_ptr<MappedFile> file) {
  return make_object(env, Environment::of(env).file_class, std::move(file));
}

std::shared_ptr<MappedFile> NativeFile::of(Napi::Value value, const char *where) {
  if (!is_tagged(value, kFileTag)) {
    throw Error(kStatusArgument, format("%s: expected a file", where));
  }
  const std::shared_ptr<MappedFile> file = Unwrap(value.As<Napi::Object>())->file_;
  if (file) return file;
  throw Error(kStatusArgument, format("%s: expected an open file, got one that was closed", where));
}

Napi::Value NativeFile::bytes(const Napi::CallbackInfo &info) {
  return Napi::Number::New(info.Env(), bytes_);
}

void NativeFile::close(const Napi::CallbackInfo &) { file_.reset(); }

NativeWeights::NativeWeights(const Napi::CallbackInfo &info)
    : ObjectWrap(info), list_(take_pending<const std::vector<PackJob>>(info.Env())) {
  info.This().As<Napi::Object>().TypeTag(&kWeightsTag);
}

void NativeWeights::define(Napi::Env env) {
  Environment::of(env).weights_class = Napi::Persistent(
      DefineClass(env, "NativeWeights", {InstanceMethod<&NativeWeights::close>("close")}));
}

Napi::Object NativeWeights::make(Napi::Env env, List list) {
  return make_object(env, Environment::of(env).weights_class,
                     std::const_pointer_cast<std::vector<PackJob>>(std::move(list)));
}

NativeWeights::List NativeWeights::of(Napi::Value value, const char *where) {
  if (!is_tagged(value, kWeightsTag)) {
    throw Error(kStatusArgument, format("%s: expected weights", where));
  }
  List list = Unwrap(value.As<Napi::Object>())->list_;
  if (list) return list;
  throw Error(kStatusArgument, format("%s: expected open weights, got closed ones", where));
}

void NativeWeights::close(const Napi::CallbackInfo &) { list_.reset(); }

NativeStream::NativeStream(const Napi::CallbackInfo &info)
    : ObjectWrap(info), stream_(take_pending<Stream>(info.Env())) {}

void NativeStream::define(Napi::Env env) {
  Environment::of(env).stream_class =
      Napi::Persistent(DefineClass(env, "NativeStream",
                                   {InstanceAccessor<&NativeStream::commands>("commands"),
                                    InstanceMethod<&NativeStream::run>("run")}));
}

Napi::Object NativeStream::make(Napi::Env env, std::shared_ptr<Stream> stream) {
  return make_object(env, Environment::of(env).stream_class, std::move(stream));
}

Napi::Value NativeStream::commands(const Napi::CallbackInfo &info) {
  return Napi::Number::New(info.Env(), stream_->commands());
}

Napi::Value NativeStream::run(const Napi::CallbackInfo &info) {
  return guarded(info.Env(), [&] {
    std::shared_ptr<Block> arena = NativeBlock::of(info[0], "run: arena");
    std::shared_ptr<Block> weights;
    if (!info[1].IsNull() && !info[1].IsUndefined()) {
      weights = NativeBlock::of(info[1], "run: weights");
    }
    std::vector<uint64_t> bindings = byte_list_argument(info[2], "run: bindings");
    const int32_t threads = threads_argument(info[3], "run");
    const Napi::Function progress = function_argument(info[4], "run: onProgress");
    Outside outside;
    if (info[5].IsObject()) {
      const Napi::Object parts = info[5].As<Napi::Object>();
      const Napi::Value host = property(parts, "host"), fetched = property(parts, "fetched");
      if (!host.IsUndefined()) outside.host = NativeBlock::of(host, "run: host");
      if (!fetched.IsUndefined()) outside.fetched = NativeWeights::of(fetched, "run: fetched");
    }
    auto run = std::make_shared<Run>(stream_, std::move(arena), std::move(weights),
                                     std::move(outside), std::move(bindings), threads);
    Job::Work work = [run = std::move(run)](Control &control) -> Job::Outcome {
      const RunResult result = run->execute(control);
      return [result](Napi::Env env) -> Napi::Value {
        Napi::Object out = Napi::Object::New(env);
        out.Set("commands", Napi::Number::New(env, result.commands));
        out.Set("arenaHighWater", Napi::Number::New(env, double(result.arena_high_water)));
        out.Set("nanoseconds", Napi::Number::New(env, double(result.nanoseconds)));
        return out;
      };
    };
    return Job::start(info.Env(), std::move(work), progress);
  });
}

} // namespace sluice
