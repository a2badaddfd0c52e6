/**
 * @file
 * The native objects that JavaScript holds: block, file, weights and stream of
 * lib/runtime/addon-types.ts.
 */
#pragma once

#include <memory>

#include <napi.h>

#include "core/block.h"
#include "core/mapped_file.h"
#include "core/packing.h"
#include "core/stream.h"

namespace sluice {

class NativeBlock : public Napi::ObjectWrap<NativeBlock> {
 public:
  static void define(Napi::Env env);
  static Napi::Object make(Napi::Env env, std::shared_ptr<Block> block);
  /** The block of an argument; throws Error where it is none, or one that was released. */
  static std::shared_ptr<Block> of(Napi::Value value, const char *where);

  explicit NativeBlock(const Napi::CallbackInfo &info);

 private:
  Napi::Value bytes(const Napi::CallbackInfo &info);
  Napi::Value tile_bytes(const Napi::CallbackInfo &info);
  void write(const Napi::CallbackInfo &info);
  void read(const Napi::CallbackInfo &info);
  void fill(const Napi::CallbackInfo &info);
  Napi::Value last_different(const Napi::CallbackInfo &info);
  void release(const Napi::CallbackInfo &info);
  Block &live(const char *where) const;

  std::shared_ptr<Block> block_;
  double bytes_ = 0, tile_bytes_ = 0;
};

class NativeFile : public Napi::ObjectWrap<NativeFile> {
 public:
  static void define(Napi::Env env);
  static Napi::Object make(Napi::Env env, std::shared_ptr<MappedFile> file);
  static std::shared_ptr<MappedFile> of(Napi::Value value, const char *where);

  explicit NativeFile(const Napi::CallbackInfo &info);

 private:
  Napi::Value bytes(const Napi::CallbackInfo &info);
  void close(const Napi::CallbackInfo &info);

  std::shared_ptr<MappedFile> file_;
  double bytes_ = 0;
};

/** Weights that runs fetch one by one. */
class NativeWeights : public Napi::ObjectWrap<NativeWeights> {
 public:
  using List = std::shared_ptr<const std::vector<PackJob>>;

  static void define(Napi::Env env);
  static Napi::Object make(Napi::Env env, List list);
  static List of(Napi::Value value, const char *where);

  explicit NativeWeights(const Napi::CallbackInfo &info);

 private:
  void close(const Napi::CallbackInfo &info);

  List list_;
};

class NativeStream : public Napi::ObjectWrap<NativeStream> {
 public:
  static void define(Napi::Env env);
  static Napi::Object make(Napi::Env env, std::shared_ptr<Stream> stream);

  explicit NativeStream(const Napi::CallbackInfo &info);

 private:
  Napi::Value commands(const Napi::CallbackInfo &info);
  Napi::Value run(const Napi::CallbackInfo &info);

  std::shared_ptr<const Stream> stream_;
};

} // namespace sluice
