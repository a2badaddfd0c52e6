/**
 * @file
 * Everything that is not C++: each PTX instruction that kernels use behind a function, and in
 * emulation its twin. Fragment layouts are those of the PTX ISA (mma.m16n8k16, ldmatrix); on sm_75
 * the same functions are made of what it has.
 *
 * Fragments of T (f16 or bf16), lane = 4 g + t, two elements a register, the lower index below:
 *   A 16 x 16: a[0] (g, 2t), a[1] (g + 8, 2t), a[2] (g, 2t + 8), a[3] (g + 8, 2t + 8)
 *   B 16 x 8:  b[0] (2t, g), b[1] (2t + 8, g): two rows of one column
 *   C 16 x 8, float: c[0], c[1] (g, 2t), (g, 2t + 1); c[2], c[3] the same of row g + 8
 */
#pragma once

#include "launch.hpp"

namespace sluice::cuda {

struct f16 {
  uint16_t bits;
};
struct bf16 {
  uint16_t bits;
};

} // namespace sluice::cuda

#ifdef SLUICE_CUDA_EMULATION
#include "emulation/ptx.hpp"
#else

namespace sluice::cuda::ptx {

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
#define SLUICE_SM_80 1
#else
#define SLUICE_SM_80 0
#endif

// ------------------------------------------------------------------------------------------------
// Conversion and arithmetic

SLUICE_DEVICE float widen(float x) { return x; }
SLUICE_DEVICE float widen(f16 x) {
  float out;
  asm("cvt.f32.f16 %0, %1;" : "=f"(out) : "h"(x.bits));
  return out;
}
SLUICE_DEVICE float widen(bf16 x) { return __uint_as_float(uint32_t(x.bits) << 16); }

template <class T>
SLUICE_DEVICE T narrow(float x);
template <>
SLUICE_DEVICE float narrow<float>(float x) {
  return x;
}
template <>
SLUICE_DEVICE f16 narrow<f16>(float x) {
  f16 out;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(out.bits) : "f"(x));
  return out;
}
/** To the nearest, ties to even. */
template <>
SLUICE_DEVICE bf16 narrow<bf16>(float x) {
#if SLUICE_SM_80
  bf16 out;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(out.bits) : "f"(x));
  return out;
#else
  const uint32_t bits = __float_as_uint(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {0x7fff};
  return {uint16_t((bits + 0x7fffu + ((bits >> 16) & 1)) >> 16)};
#endif
}

/** Two values in one register, `low` below. */
template <class T>
SLUICE_DEVICE uint32_t pack2(float low, float high) {
  return uint32_t(narrow<T>(low).bits) | uint32_t(narrow<T>(high).bits) << 16;
}
#if SLUICE_SM_80
template <>
SLUICE_DEVICE uint32_t pack2<f16>(float low, float high) {
  uint32_t out;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(out) : "f"(high), "f"(low));
  return out;
}
template <>
SLUICE_DEVICE uint32_t pack2<bf16>(float low, float high) {
  uint32_t out;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(out) : "f"(high), "f"(low));
  return out;
}
#endif

/** 2^x, some units in the last place off. */
SLUICE_DEVICE float exp2_fast(float x) {
  float out;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(out) : "f"(x));
  return out;
}

// ------------------------------------------------------------------------------------------------
// Matrices in shared memory

template <class T>
SLUICE_DEVICE uint32_t shared_address(Shared<T> s, int32_t i) {
  return uint32_t(__cvta_generic_to_shared(s.data + i));
}

/**
 * Four 8 x 8 matrices; lane l names row l % 8 of matrix l / 8, eight elements that begin at i.
 * out[m] is (l / 4, 2 (l % 4)) and the element right of it in matrix m.
 */
template <class T>
SLUICE_DEVICE void load_matrices(uint32_t (&out)[4], Shared<T> s, int32_t i) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(shared_address(s, i)));
}
/** As load_matrices, each matrix transposed. */
template <class T>
SLUICE_DEVICE void load_matrices_transposed(uint32_t (&out)[4], Shared<T> s, int32_t i) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(shared_address(s, i)));
}

// ------------------------------------------------------------------------------------------------
// Matrix product

template <class T>
SLUICE_DEVICE void mma(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);

template <>
SLUICE_DEVICE void mma<f16>(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#if SLUICE_SM_80
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  for (int half = 0; half < 2; ++half)
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, "
        "{%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[2 * half]), "r"(a[2 * half + 1]), "r"(b[half]));
#endif
}
template <>
SLUICE_DEVICE void mma<bf16>(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#if SLUICE_SM_80
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  asm volatile("trap;"); // the launcher never chooses this before sm_80
#endif
}

/** c[i][j] += a[i] b[j]: a warp's tile of 16 M rows and 8 N columns, over 16 of the depth. */
template <class T, int M, int N>
SLUICE_DEVICE void mma_tile(float (&c)[M][N][4], const uint32_t (&a)[M][4],
                            const uint32_t (&b)[N][2]) {
#pragma unroll
  for (int i = 0; i < M; ++i)
#pragma unroll
    for (int j = 0; j < N; ++j) mma<T>(c[i][j], a[i], b[j]);
}

// ------------------------------------------------------------------------------------------------
// Asynchronous copies

/**
 * Copies 16 bytes, or fills them with zeros where `valid` is false (`from` is then not read). The
 * bytes are there for this thread after copy_wait, for others after a barrier behind it. Before
 * sm_80 the copy is made at once.
 */
template <class T>
SLUICE_DEVICE void copy_16(Shared<T> to, int32_t i, Global<const T> from, int64_t j, bool valid) {
#if SLUICE_SM_80
  const T *const source = valid ? from.data + j : from.data;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to, i)),
               "l"(__cvta_generic_to_global(source)), "r"(valid ? 16 : 0)
               : "memory");
#else
  to.template store_as<Words4>(i, valid ? from.template load_as<Words4>(j) : Words4{0, 0, 0, 0});
#endif
}
/** Ends a group of copies; a group may be empty. */
SLUICE_DEVICE void copy_commit() {
#if SLUICE_SM_80
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
/** Waits until at most kLeft of this thread's groups are under way. */
template <int kLeft>
SLUICE_DEVICE void copy_wait() {
#if SLUICE_SM_80
  asm volatile("cp.async.wait_group %0;" ::"n"(kLeft) : "memory");
#endif
}

} // namespace sluice::cuda::ptx

#endif
