#include "addon/environment.h"

#include "addon/job.h"

namespace sluice {

Environment::Environment(Napi::Env env) : env_(env) {
  const napi_status made =
      napi_create_threadsafe_function(env, nullptr, nullptr, Napi::String::New(env, "sluice"), 0, 1,
                                      nullptr, nullptr, this, &Environment::on_wake, &waker_);
  if (made != napi_ok)
    throw Napi::Error::New(env, "sluice: expected a thread-safe function, got none");
  napi_unref_threadsafe_function(env, waker_);
  napi_add_env_cleanup_hook(env, &Environment::on_cleanup, this);
}

void Environment::create(Napi::Env env) { env.SetInstanceData(new Environment(env)); }

void Environment::add(std::shared_ptr<Job> job) {
  if (jobs_.empty()) napi_ref_threadsafe_function(env_, waker_);
  jobs_.push_back(std::move(job));
}

void Environment::remove(const Job *job) {
  std::erase_if(jobs_, [job](const std::shared_ptr<Job> &held) { return held.get() == job; });
  if (jobs_.empty()) napi_unref_threadsafe_function(env_, waker_);
}

void Environment::wake() { napi_call_threadsafe_function(waker_, nullptr, napi_tsfn_nonblocking); }

void Environment::on_wake(napi_env env, napi_value, void *context, void *) {
  if (!env) return; // the environment is going, and `context` may be gone
  Environment &self = *static_cast<Environment *>(context);
  // A copy, because the callbacks may start jobs.
  const std::vector<std::shared_ptr<Job>> jobs = self.jobs_;
  for (const std::shared_ptr<Job> &job : jobs) {
    bool settled = true;
    try {
      settled = job->settle(env);
    } catch (...) {
      // Only an environment that is being terminated refuses to settle a promise; nobody is left to
      // be told.
    }
    if (settled) self.remove(job.get());
  }
}

void Environment::on_cleanup(void *context) {
  // Threads must end here: right after the cleanup hooks Node deletes the thread-safe function that
  // they call.
  Environment &self = *static_cast<Environment *>(context);
  for (const std::shared_ptr<Job> &job : self.jobs_) job->abort();
  for (const std::shared_ptr<Job> &job : self.jobs_) job->abandon();
  self.jobs_.clear();
}

} // namespace sluice
