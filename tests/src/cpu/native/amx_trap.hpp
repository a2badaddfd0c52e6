/**
 * @file
 * Runs the instructions of AMX on a processor without: each one traps, is decoded from its bytes
 * and carried out by the model. Encodings: Intel's manual, volume 2.
 */
#pragma once

#include <signal.h>
#include <ucontext.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "cpu/kernels/amx_model.hpp"

namespace sluice::SLUICE_ISA_NAMESPACE {

/** An instruction with a VEX prefix of three bytes. */
class TrappedInstruction {
 public:
  TrappedInstruction(const uint8_t *code, const greg_t *registers)
      : at_(code), registers_(registers), code_(code) {
    legal_ = code[0] == 0xc4 && (code[1] & 0x1f) == 2; // map 0F38
    // Stored inverted.
    r_ = !(code[1] & 0x80), x_ = !(code[1] & 0x40), b_ = !(code[1] & 0x20);
    source_ = ~code[2] >> 3 & 15;
    legal_ = legal_ && (code[2] & 0x84) == 0; // neither W nor L
    prefix_ = code[2] & 3;
    opcode_ = code[3];
    at_ += 4;
    modrm_ = *at_++;
    memory_ = modrm_ >> 6 != 3;
    if (memory_) find_address();
  }

  /** Carries it out. Returns the bytes it takes; 0 where it is none of AMX. */
  int32_t execute(ModelTiles &tiles) const {
    constexpr int32_t kNone = 0, kF3 = 2, kF2 = 3;
    const int32_t reg = (modrm_ >> 3 & 7) + 8 * r_, rm = (modrm_ & 7) + 8 * b_;
    if (!legal_ || reg >= 8) return 0;
    if (opcode_ == 0x49 && prefix_ == kNone && memory_) {
      TileConfig config;
      memcpy(&config, (const void *)address_, sizeof config);
      tiles.configure(config);
    } else if (opcode_ == 0x49 && prefix_ == kNone && modrm_ == 0xc0) {
      tiles.release();
    } else if (opcode_ == 0x4b && prefix_ == kF2 && memory_ && sib_) {
      tiles.load(reg, (const void *)address_, index_);
    } else if (opcode_ == 0x4b && prefix_ == kF3 && memory_ && sib_) {
      tiles.store(reg, (void *)address_, index_);
    } else if (opcode_ == 0x5c && prefix_ == kF3 && !memory_) {
      tiles.products(reg, rm, source_);
    } else {
      return 0;
    }
    return (int32_t)(at_ - code_);
  }

 private:
  int64_t value(int32_t number) const {
    static constexpr int kOrder[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
                                       REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                       REG_R12, REG_R13, REG_R14, REG_R15};
    return registers_[kOrder[number]];
  }

  /** The address without the index, which is the stride of tiles; with it for a configuration. */
  void find_address() {
    const int32_t mode = modrm_ >> 6, rm = modrm_ & 7;
    sib_ = rm == 4;
    int32_t base = rm;
    if (sib_) {
      const uint8_t sib = *at_++;
      base = sib & 7;
      const int32_t index = (sib >> 3 & 7) + 8 * x_;
      index_ = index == 4 ? 0 : value(index) * (1 << (sib >> 6));
    }
    const bool bare = mode == 0 && base == 5;
    address_ = bare ? 0 : value(base + 8 * b_);
    if (mode == 1) {
      address_ += (int8_t)*at_++;
    } else if (mode == 2 || bare) {
      int32_t displacement;
      memcpy(&displacement, at_, sizeof displacement);
      at_ += sizeof displacement;
      address_ += displacement;
      if (bare && !sib_) address_ += (int64_t)at_;
    }
    if (opcode_ == 0x49) address_ += index_;
  }

  const uint8_t *at_;
  const greg_t *registers_;
  const uint8_t *code_;
  bool legal_, r_, x_, b_, memory_, sib_ = false;
  int32_t source_, prefix_, opcode_, modrm_;
  int64_t address_ = 0, index_ = 0;
};

/** Each thread's tiles, and how many instructions it has had carried out. */
inline thread_local ModelTiles trapped_tiles{TileConfig{.palette = 0}};
inline thread_local int64_t trapped_instructions = 0;

inline void on_illegal_instruction(int, siginfo_t *, void *context) {
  greg_t *const registers = ((ucontext_t *)context)->uc_mcontext.gregs;
  const TrappedInstruction instruction((const uint8_t *)registers[REG_RIP], registers);
  const int32_t bytes = instruction.execute(trapped_tiles);
  if (bytes == 0 || trapped_tiles.error()) {
    fprintf(stderr, "illegal instruction: %s\n",
            bytes == 0 ? "none of AMX that the kernels use" : trapped_tiles.error());
    abort();
  }
  ++trapped_instructions;
  registers[REG_RIP] += bytes;
}

inline void trap_amx() {
  struct sigaction action = {};
  action.sa_sigaction = on_illegal_instruction;
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGILL, &action, nullptr);
}

} // namespace sluice::SLUICE_ISA_NAMESPACE
