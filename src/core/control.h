/**
 * @file
 * The two-way line between work off the event loop and whoever started it: an abort flag down, a
 * counter of finished pieces up.
 */
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

namespace sluice {

class Control {
 public:
  using Notify = void (*)(void *context);

  /** notify: called on the working thread when the counter is worth a look, at most every 20 ms. */
  Control(Notify notify, void *context) : notify_(notify), context_(context) {}

  void abort() { aborted_.store(true, std::memory_order_relaxed); }
  bool aborted() const { return aborted_.load(std::memory_order_relaxed); }
  /** The flag as kernels read it, in the middle of a command. */
  const volatile uint8_t *stop() const {
    static_assert(sizeof(std::atomic<bool>) == 1 && std::atomic<bool>::is_always_lock_free);
    return reinterpret_cast<const volatile uint8_t *>(&aborted_);
  }

  /** Sets the number of finished pieces. Does not allocate. */
  void report(int64_t done) {
    done_.store(done, std::memory_order_relaxed);
    const auto now = std::chrono::steady_clock::now();
    if (now - last_ < std::chrono::milliseconds(20)) return;
    last_ = now;
    notify_(context_);
  }
  int64_t done() const { return done_.load(std::memory_order_relaxed); }

 private:
  const Notify notify_;
  void *const context_;
  std::atomic<bool> aborted_{false};
  std::atomic<int64_t> done_{0};
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

} // namespace sluice
