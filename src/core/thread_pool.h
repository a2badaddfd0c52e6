/**
 * @file
 * The process's compute threads. A piece of work is split into a fixed number of shares, whatever
 * the threads at hand, and runs alone: when several runs are under way they take turns in the order
 * they asked, each for about a millisecond of pieces (a Row), since to change costs a thread's
 * wake-up.
 *
 * Workers wait for the next piece spinning for some tens of microseconds while a session is open,
 * then they sleep. The pool is made on first use and never destroyed: at exit its workers sleep,
 * and the process takes them with it.
 */
#pragma once

#include <atomic>
#include <cstdint>

namespace sluice {

class ThreadPool {
 public:
  /** One share; the non-zero status of any share becomes the status of the whole. */
  using Work = int (*)(void *context, int32_t thread, int32_t threads);

  static ThreadPool &instance();

  /**
   * While one lives, the pieces that its thread runs may follow each other in one turn. Without one
   * every piece is a turn.
   */
  class Row {
   public:
    Row();
    ~Row();
    Row(const Row &) = delete;
    Row &operator=(const Row &) = delete;
  };

  /** Threads that compute at once, the caller's included: cpu_threads(). */
  int32_t size() const { return size_; }

  /** Between these two, pieces of work are expected soon. */
  void open_session() { sessions_.fetch_add(1); }
  void close_session() { sessions_.fetch_sub(1); }

  /**
   * Runs work(context, i, threads) for every i in [0, threads) and returns when all have returned.
   * The caller takes part. With more shares than threads, a thread takes every size()-th share.
   * Allocates only when it starts a worker.
   */
  int run(int32_t threads, Work work, void *context);

 private:
  /** A cache line of its own, so that waking one worker does not disturb the others. */
  struct alignas(64) Worker {
    std::atomic<uint32_t> pieces{0};
    std::atomic<int32_t> processor{-1}; ///< where its last piece ended
    std::atomic<int32_t> thread{0};     ///< for the system; 0 before it has started
    int32_t moved_by = 0;               ///< the thread that moved it for the coming piece
  };

  explicit ThreadPool(int32_t size);
  void take_turn();
  void part_workers(int32_t helpers);
  void give_turn();
  void worker_main(int32_t lane);
  void run_shares(int32_t lane);
  bool start_worker();

  const int32_t size_;
  Worker *const workers_; ///< worker i runs lane i + 1
  int32_t started_ = 0;

  // The piece under way: written by the thread whose turn it is, before it wakes the workers.
  Work work_ = nullptr;
  void *context_ = nullptr;
  int32_t threads_ = 0, lanes_ = 0;

  alignas(64) std::atomic<uint32_t> next_ticket_{0};
  alignas(64) std::atomic<uint32_t> turn_{0};
  alignas(64) std::atomic<uint32_t> pending_{0};
  std::atomic<int> status_{0};
  alignas(64) std::atomic<int32_t> sessions_{0};
};

} // namespace sluice
