#include "core/thread_pool.h"

#include <algorithm>
#include <chrono>
#include <exception>
#include <thread>

#include <pthread.h>
#include <signal.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "core/placement.h"
#include "core/system.h"

namespace sluice {
namespace {

/** About 20 to 50 us: longer than the gap between two commands, shorter than a time slice. */
constexpr int kSpins = 2000;

using Clock = std::chrono::steady_clock;

/** How long a row of pieces keeps its turn while others wait: some ten times what changing costs.
 */
constexpr auto kTurn = std::chrono::milliseconds(1);

/** What the calling thread holds. */
struct Holding {
  bool row = false;
  bool turn = false;
  Clock::time_point until;
};
thread_local Holding holding;

void pause_briefly() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

/** Returns once `value` is no longer `old`: spins first where `spins` says so, then sleeps. */
uint32_t wait_change(const std::atomic<uint32_t> &value, uint32_t old, int spins) {
  for (int i = 0; i < spins; ++i) {
    const uint32_t now = value.load(std::memory_order_acquire);
    if (now != old) return now;
    pause_briefly();
  }
  value.wait(old, std::memory_order_acquire);
  return value.load(std::memory_order_acquire);
}

} // namespace

ThreadPool &ThreadPool::instance() {
  static ThreadPool &pool = *new ThreadPool(cpu_threads());
  return pool;
}

ThreadPool::ThreadPool(int32_t size) : size_(size), workers_(new Worker[size_t(size)]) {}

ThreadPool::Row::Row() { holding.row = true; }

ThreadPool::Row::~Row() {
  holding.row = false;
  if (holding.turn) instance().give_turn();
}

void ThreadPool::take_turn() {
  const uint32_t ticket = next_ticket_.fetch_add(1);
  for (uint32_t turn = turn_.load(std::memory_order_acquire); turn != ticket;) {
    turn = wait_change(turn_, turn, kSpins / 10);
  }
  holding.turn = true;
  holding.until = Clock::now() + kTurn;
}

void ThreadPool::give_turn() {
  holding.turn = false;
  turn_.fetch_add(1);
  turn_.notify_all();
}

/** Returns false where the system grants no more threads: the pool then works with those it has. */
bool ThreadPool::start_worker() {
  // The process's signals belong to the host's main thread.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  bool started = true;
  try {
    std::thread(&ThreadPool::worker_main, this, started_ + 1).detach();
    ++started_;
  } catch (const std::exception &) {
    started = false;
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return started;
}

void ThreadPool::run_shares(int32_t lane) {
  for (int32_t i = lane; i < threads_; i += lanes_) {
    const int status = work_(context_, i, threads_);
    int none = 0;
    if (status != 0) status_.compare_exchange_strong(none, status);
  }
}

void ThreadPool::worker_main(int32_t lane) {
  Worker &self = workers_[lane - 1];
  std::atomic<uint32_t> &pieces = self.pieces;
  self.processor.store(current_processor());
  self.thread.store(current_thread());
  for (uint32_t seen = 0;;) {
    uint32_t now = seen;
    // Spinning is worth while only as long as a session is open; it ends between two looks at the
    // counter.
    for (int i = 0; i < kSpins && now == seen && sessions_.load(std::memory_order_relaxed) > 0;
         i += 50) {
      for (int k = 0; k < 50 && now == seen; ++k) {
        pause_briefly();
        now = pieces.load(std::memory_order_acquire);
      }
    }
    while (now == seen) now = wait_change(pieces, seen, 0);
    // The next piece starts only after this one's pending_ is down to 0, so that none is ever
    // missed.
    seen = now;
    if (self.moved_by != 0) {
      run_where(self.moved_by);
      self.moved_by = 0;
    }
    run_shares(lane);
    self.processor.store(current_processor(), std::memory_order_relaxed);
    if (pending_.fetch_sub(1) == 1) pending_.notify_one();
  }
}

/** Moves workers that last ran where the caller runs, or one before them in line. */
void ThreadPool::part_workers(int32_t helpers) {
  const int32_t own = current_processor();
  if (own < 0) return;
  Processors taken;
  taken.set(size_t(own));
  for (int32_t i = 0; i < helpers; ++i) {
    Worker &worker = workers_[i];
    const int32_t at = worker.processor.load(std::memory_order_relaxed);
    const int32_t thread = worker.thread.load(std::memory_order_relaxed);
    if (at < 0 || thread == 0) continue;
    if (taken[size_t(at)] && move_away(thread, taken))
      worker.moved_by = current_thread();
    else
      taken.set(size_t(at));
  }
}

int ThreadPool::run(int32_t threads, Work work, void *context) {
  if (!holding.turn) take_turn();

  const int32_t wanted = std::min(threads, size_) - 1;
  while (started_ < wanted && start_worker()) {
  }
  const int32_t helpers = std::max(0, std::min(wanted, started_));
  work_ = work;
  context_ = context;
  threads_ = threads;
  lanes_ = helpers + 1;
  status_.store(0, std::memory_order_relaxed);
  pending_.store(uint32_t(helpers), std::memory_order_relaxed);
  part_workers(helpers);
  for (int32_t i = 0; i < helpers; ++i) {
    workers_[i].pieces.fetch_add(1);
    workers_[i].pieces.notify_one();
  }
  run_shares(0);
  for (uint32_t left = pending_.load(std::memory_order_acquire); left != 0;) {
    left = wait_change(pending_, left, kSpins);
  }
  const int status = status_.load(std::memory_order_relaxed);

  // Nobody else asks: the next piece takes its turn at no cost.
  const bool alone = next_ticket_.load(std::memory_order_relaxed) - turn_.load() == 1;
  if (!holding.row || alone || Clock::now() >= holding.until) give_turn();
  return status;
}

} // namespace sluice
