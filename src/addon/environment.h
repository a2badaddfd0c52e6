/**
 * @file
 * What the addon keeps for one JavaScript environment (the main thread or a worker): its classes,
 * its jobs, and the one thread-safe function through which working threads wake its event loop.
 */
#pragma once

#include <memory>
#include <vector>

#include <napi.h>

namespace sluice {

class Job;

class Environment {
 public:
  /** Makes the environment's state; called once, when the addon is loaded there. */
  static void create(Napi::Env env);
  static Environment &of(Napi::Env env) { return *env.GetInstanceData<Environment>(); }

  Napi::FunctionReference block_class, file_class, weights_class, stream_class;
  /** What the next native object made holds: a class called from JavaScript finds nothing here and
   * refuses. */
  std::shared_ptr<void> pending;

  /** Keeps the job, and the event loop, until it has settled. */
  void add(std::shared_ptr<Job> job);
  void remove(const Job *job);
  /** Has `on_wake` called on the event loop soon. Any thread. */
  void wake();
  napi_env env() const { return env_; }

 private:
  explicit Environment(Napi::Env env);
  static void on_wake(napi_env env, napi_value, void *context, void *);
  static void on_cleanup(void *context);

  napi_env env_;
  napi_threadsafe_function waker_ = nullptr;
  std::vector<std::shared_ptr<Job>> jobs_;
};

} // namespace sluice
