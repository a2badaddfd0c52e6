/**
 * @file
 * The bytes that a command may touch: one function serves the bounds check at load and the
 * high-water mark of a run.
 */
#pragma once

#include <cstdint>

#include "core/backend.h"
#include "core/commands.h"

namespace sluice {

/** The smallest interval that holds every byte of one operand. */
struct Claim {
  sluice_range range;
  const char *operand;
};

constexpr int kMaxClaims = 12;

struct Claims {
  Claim items[kMaxClaims];
  int count = 0;
};

/**
 * Claims of a command whose fields check_command has accepted, scratch of `threads` threads
 * included. A byte position that does not fit in 64 bits becomes UINT64_MAX, which no slot holds.
 */
void ranges(const Header &command, int32_t threads, Claims &out);

/** Scratch of a command: null view where it has none. */
struct Scratch {
  const View *view = nullptr;
  uint32_t bytes_per_thread = 0;
};
Scratch scratch_of(const Header &command);

/** Bytes of one element. */
constexpr uint64_t dtype_bytes(DType dtype) {
  return dtype == DType::f16 || dtype == DType::bf16 ? 2 : 4;
}

/** Channels of the concatenated sources of a command that has them. */
template <class Command>
int64_t source_channels(const Command &command) {
  return int64_t(command.source_channels[0]) +
         (command.sources > 1 ? int64_t(command.source_channels[1]) : 0);
}

constexpr uint64_t ceil16(uint64_t value) { return (value + 15) / 16 * 16; }

/** Arithmetic that stays at UINT64_MAX instead of wrapping around. */
inline uint64_t saturating_add(uint64_t a, uint64_t b) {
  uint64_t out;
  return __builtin_add_overflow(a, b, &out) ? UINT64_MAX : out;
}
inline uint64_t saturating_mul(uint64_t a, uint64_t b) {
  uint64_t out;
  return __builtin_mul_overflow(a, b, &out) ? UINT64_MAX : out;
}

} // namespace sluice
