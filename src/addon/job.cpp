#include "addon/job.h"

#include "addon/arguments.h"
#include "addon/environment.h"

namespace sluice {

Job::Job(Napi::Env env, Work work, Napi::Function progress)
    : environment_(Environment::of(env)),
      control_(&Job::notify, this),
      work_(std::move(work)),
      deferred_(Napi::Promise::Deferred::New(env)) {
  if (!progress.IsEmpty()) progress_ = Napi::Persistent(progress);
}

Job::~Job() {
  if (thread_.joinable()) thread_.join();
}

Napi::Object Job::start(Napi::Env env, Work work, Napi::Function progress) {
  std::shared_ptr<Job> job(new Job(env, std::move(work), progress));
  Napi::Object out = Napi::Object::New(env);
  out.Set("done", job->deferred_->Promise());
  out.Set("abort", Napi::Function::New(
                       env, [job](const Napi::CallbackInfo &) { job->abort(); }, "abort"));
  job->environment_.add(job);
  try {
    job->thread_ = std::thread(&Job::drive, job.get());
  } catch (...) {
    job->environment_.remove(job.get());
    throw;
  }
  return out;
}

void Job::notify(void *job) { static_cast<Job *>(job)->environment_.wake(); }

void Job::drive() {
  try {
    outcome_ = work_(control_);
  } catch (...) {
    error_ = current_error();
  }
  work_ = nullptr;
  finished_.store(true, std::memory_order_release);
  environment_.wake();
}

void Job::report(Napi::Env env, int64_t done) {
  if (progress_.IsEmpty() || failed_in_callback_ || done == reported_) return;
  reported_ = done;
  // The C calls, because the classes abort the process when a worker is terminated within the
  // callback.
  napi_value number, undefined;
  if (napi_create_double(env, double(done), &number) != napi_ok ||
      napi_get_undefined(env, &undefined) != napi_ok) {
    return;
  }
  if (napi_call_function(env, undefined, progress_.Value(), 1, &number, nullptr) == napi_ok) return;
  failed_in_callback_ = true;
  control_.abort();
  bool pending = false;
  napi_value thrown;
  if (napi_is_exception_pending(env, &pending) == napi_ok && pending &&
      napi_get_and_clear_last_exception(env, &thrown) == napi_ok) {
    napi_create_reference(env, thrown, 1, &thrown_);
  }
}

bool Job::settle(Napi::Env env) {
  const bool finished = finished_.load(std::memory_order_acquire);
  if (!finished || !error_) report(env, control_.done());
  if (!finished) return false;
  thread_.join();
  progress_.Reset();
  if (failed_in_callback_) {
    deferred_->Reject(take_thrown(env));
  } else if (error_) {
    deferred_->Reject(to_javascript(env, *error_).Value());
  } else {
    deferred_->Resolve(outcome_(env));
  }
  return true;
}

napi_value Job::take_thrown(Napi::Env env) {
  napi_value thrown = nullptr;
  if (thrown_) {
    napi_get_reference_value(env, thrown_, &thrown);
    napi_delete_reference(env, thrown_);
    thrown_ = nullptr;
  }
  if (thrown) return thrown;
  const Error error(kStatusArgument,
                    "onProgress: expected to return, got a thrown value that is no object");
  return to_javascript(env, error).Value();
}

void Job::abandon() {
  if (thread_.joinable()) thread_.join();
  progress_.Reset();
  if (thrown_) napi_delete_reference(environment_.env(), thrown_);
  thrown_ = nullptr;
}

} // namespace sluice
