/**
 * @file
 * Work on a driver thread of its own, seen from JavaScript as { done, abort() }.
 */
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <thread>

#include <napi.h>

#include "core/control.h"
#include "core/error.h"

namespace sluice {

class Environment;

class Job : public std::enable_shared_from_this<Job> {
 public:
  /** Makes the value of the promise, on the event loop. */
  using Outcome = std::function<Napi::Value(Napi::Env)>;
  /** Runs on the driver thread and owns what it needs; destroyed there before the promise settles.
   */
  using Work = std::function<Outcome(Control &)>;

  /** Starts the thread; progress may be empty. */
  static Napi::Object start(Napi::Env env, Work work, Napi::Function progress);

  ~Job();
  Job(const Job &) = delete;
  Job &operator=(const Job &) = delete;

  void abort() { control_.abort(); }
  /** On the event loop: reports progress; where the work has ended settles the promise and returns
   * true. */
  bool settle(Napi::Env env);
  /** Waits for the thread and lets go of everything, without settling: the environment is going. */
  void abandon();

 private:
  Job(Napi::Env env, Work work, Napi::Function progress);
  void drive();
  void report(Napi::Env env, int64_t done);
  napi_value take_thrown(Napi::Env env);
  static void notify(void *job);

  Environment &environment_;
  Control control_;
  Work work_;
  std::optional<Napi::Promise::Deferred> deferred_;
  Napi::FunctionReference progress_;
  bool failed_in_callback_ = false;
  napi_ref thrown_ = nullptr; ///< by the progress callback; null for a value that is no object
  int64_t reported_ = 0;

  // Written by the driver thread before it sets finished_.
  Outcome outcome_;
  std::optional<Error> error_;
  std::atomic<bool> finished_{false};
  std::thread thread_;
};

} // namespace sluice
