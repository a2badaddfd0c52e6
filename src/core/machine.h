/**
 * @file
 * The machine: executes a checked stream, command after command, in one arena.
 */
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "core/block.h"
#include "core/control.h"
#include "core/packing.h"
#include "core/stream.h"

namespace sluice {

/** Where a stream finds what is not in its own memory. */
struct Outside {
  std::shared_ptr<Block> host;                         ///< the host slot, or null
  std::shared_ptr<const std::vector<PackJob>> fetched; ///< what fetch commands pack, or null
};

struct RunResult {
  int32_t commands;
  uint64_t arena_high_water;
  int64_t nanoseconds; ///< by the device's clock, where it has one
};

/** One run: made on the event loop, where everything is checked and allocated, then executed once
 * on a driver thread. */
class Run {
 public:
  /**
   * weights and what is outside may be null where the stream has none. bindings: arena offset of
   * each bound slot. Throws Error (argument, bad command, out of memory). The arena counts as
   * running until this object goes.
   */
  Run(std::shared_ptr<const Stream> stream, std::shared_ptr<Block> arena,
      std::shared_ptr<Block> weights, Outside outside, std::vector<uint64_t> bindings,
      int32_t threads);
  ~Run();
  Run(const Run &) = delete;
  Run &operator=(const Run &) = delete;

  /** Reads the abort flag between commands. Throws Error: aborted, bad data, device lost. */
  RunResult execute(Control &control);

 private:
  void check() const;
  void check_fetches() const;
  /** Hands commands from `first` on to the backend. */
  int submit(int32_t first, Control &control, int32_t *taken, char *error, size_t capacity);

  std::shared_ptr<const Stream> stream_;
  std::shared_ptr<Block> arena_, weights_;
  Outside outside_;
  std::unique_ptr<Packer> packer_;
  std::vector<uint64_t> bindings_;
  std::vector<void *> bases_;
  int32_t threads_;
  sluice_queue *queue_ = nullptr;
};

} // namespace sluice
