/**
 * @file
 * A command stream that has been checked: every operand of every command lies inside its slot, so
 * that kernels need no checks.
 */
#pragma once

#include <cstdint>
#include <vector>

#include "core/backends.h"
#include "core/commands.h"

namespace sluice {

class Stream {
 public:
  /**
   * Copies and checks the words. slot_bytes: size of each slot (arena, weights, host, then the
   * bound ones). Throws Error (bad command) that names command, node and operand.
   */
  Stream(const Device &device, const int32_t *words, size_t count,
         std::vector<uint64_t> slot_bytes);

  const Device &device() const { return device_; }
  int32_t commands() const { return int32_t(entries_.size()); }
  const Header &command(int32_t index) const;
  /** Whether some command packs a weight. */
  bool fetches() const { return fetches_; }
  const std::vector<uint64_t> &slot_bytes() const { return slot_bytes_; }

  /** Throws Error (bad command) where the scratch of some command does not fit the arena with so
   * many threads. */
  void check_threads(int32_t threads) const;

  /** One past the highest arena byte that the first `commands` commands claim, bound slots starting
   * at `bindings`. */
  uint64_t high_water(int32_t commands, int32_t threads, const uint64_t *bindings) const;

 private:
  struct Entry {
    size_t word;            ///< where the command starts
    uint64_t arena_end;     ///< of its operands in the arena
    uint64_t scratch_begin; ///< in the arena
    uint32_t scratch_bytes; ///< per thread
  };
  /** Command `command` raises the highest byte claimed of a bound slot. */
  struct BoundMark {
    int32_t command, slot;
    uint64_t end;
  };

  void add(int32_t index, size_t word);

  Device device_;
  std::vector<int32_t> words_;
  std::vector<uint64_t> slot_bytes_;
  std::vector<uint64_t> bound_ends_;
  std::vector<Entry> entries_;
  std::vector<BoundMark> marks_;
  bool fetches_ = false;
};

/** `command 3 (conv, node 7)` */
std::string describe(int32_t index, const Header &command);

} // namespace sluice
