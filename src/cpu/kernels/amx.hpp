/**
 * @file
 * The tile registers of AMX by its instructions, with the interface of their model. They are spelt
 * as assembly, because the intrinsics of GCC 12 name tiles by literals alone and do not tell the
 * compiler that loads read memory.
 */
#pragma once

#include "cpu/kernels/amx_model.hpp"

namespace sluice::SLUICE_ISA_NAMESPACE {

/** This thread's tiles, from the configuration until they are released. */
class AmxTiles {
 public:
  static constexpr bool kHardware = true;

  explicit AmxTiles(const TileConfig &config) { asm volatile("ldtilecfg %0" : : "m"(config)); }
  ~AmxTiles() { asm volatile("tilerelease"); }
  AmxTiles(const AmxTiles &) = delete;
  AmxTiles &operator=(const AmxTiles &) = delete;

  static constexpr const char *error() { return nullptr; }

  template <int T>
  void load(const void *from, int64_t stride) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(from), "r"(stride), "i"(T) : "memory");
  }
  template <int T>
  void store(void *to, int64_t stride) {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(to), "r"(stride), "i"(T) : "memory");
  }
  /** Assembly names the operands of Intel's manual last to first. */
  template <int C, int A, int B>
  void products() {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(C), "i"(A), "i"(B));
  }
};

} // namespace sluice::SLUICE_ISA_NAMESPACE
