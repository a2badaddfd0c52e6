/**
 * @file
 * What compute capability 9.0 has beyond ptx.hpp: barriers in shared memory (mbarrier), copies of
 * boxes of a tensor (TMA), products by four warps together (wgmma), registers that warps hand over.
 * Each has its twin in emulation/ptx_hopper.hpp. On other architectures the functions trap: the
 * launcher never chooses a kernel that calls them.
 *
 * Shared memory that ordinary stores wrote is seen by copies, products and barriers of the
 * asynchronous proxy only after async_fence() and a barrier (PTX ISA, "Proxies").
 *
 * Matrices in shared memory are named by descriptors (PTX ISA, "Matrix Descriptor Format" of
 * wgmma): bits 0-13 the address / 16, 16-29 the leading and 32-45 the stride byte offset / 16,
 * 49-51 the base offset, 0 where the pattern of the swizzle begins at a multiple of its size, 62-63
 * the swizzle. Units of 16 bytes are exchanged within the pattern by XOR of address bits:
 *   128 bytes (1): bits 4-6 ^= bits 7-9, repeats after 1024 bytes
 *   32 bytes (3): bit 4 ^= bit 7, repeats after 256 bytes
 * which is what TMA writes with the swizzle of the same name.
 *   A, depth in a row, swizzle of 128: rows of 128 bytes, eight rows a pattern. Stride: from eight
 *   rows to the next eight (1024). Leading: unused (1). Sixteen of the depth on: 32 bytes.
 *   B, columns in a row, swizzle of 32: rows of 16 columns, eight of the depth a pattern. Leading:
 *   from 16 columns to the next. Stride: from eight of the depth to the next eight (256).
 * Sums of m64nNk16: thread 32 w + l of the four warps has c[4 j + r] of row 16 w + l / 4 (+ 8 for r
 * of 2 and 3), column 8 j + 2 (l % 4) (+ 1 for odd r) (PTX ISA, "Register Fragments" of wgmma).
 */
#pragma once

#include "ptx.hpp"
#include "runtime.hpp"

namespace sluice::cuda {

/** A tensor in device memory as TMA sees it; a kernel's parameter, marked SLUICE_MAP. */
using TensorMap = CUtensorMap;

constexpr int32_t kGroupThreads = 128; ///< four warps, which multiply together

namespace ptx {

/** How 16-byte units are exchanged: a descriptor's bits 62-63. */
enum class Swizzle : uint32_t { bytes_128 = 1, bytes_32 = 3 };

/** A descriptor but for its address. */
SLUICE_HOST_DEVICE constexpr uint64_t matrix_form(Swizzle swizzle, uint32_t leading_bytes,
                                                  uint32_t stride_bytes) {
  return uint64_t(leading_bytes / 16) << 16 | uint64_t(stride_bytes / 16) << 32 |
         uint64_t(swizzle) << 62;
}

} // namespace ptx
} // namespace sluice::cuda

#ifdef SLUICE_CUDA_EMULATION
#include "emulation/ptx_hopper.hpp"
#else

#define SLUICE_MAP const __grid_constant__ ::sluice::cuda::TensorMap

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define SLUICE_SM_90A 1
#define SLUICE_HOPPER_ASM(...) asm volatile(__VA_ARGS__)
#else
#define SLUICE_SM_90A 0
#define SLUICE_HOPPER_ASM(...) asm volatile("trap;")
#endif

namespace sluice::cuda::ptx {

// ------------------------------------------------------------------------------------------------
// Barriers. A phase ends when as many threads as the barrier counts have arrived and all bytes that
// they expect have landed; phases alternate in parity, the first has parity 0.

using Barriers = Shared<uint64_t>;

SLUICE_DEVICE void barrier_init(Barriers b, int32_t i, uint32_t count) {
  SLUICE_HOPPER_ASM("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(b, i)),
                    "r"(count)
                    : "memory");
}
/** Arrives; what this thread did before is seen by those who wait for the phase. */
SLUICE_DEVICE void barrier_arrive(Barriers b, int32_t i) {
  SLUICE_HOPPER_ASM("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(b, i))
                    : "memory");
}
/** Arrives, and lets the phase wait for so many bytes of copies. */
SLUICE_DEVICE void barrier_expect(Barriers b, int32_t i, uint32_t bytes) {
  SLUICE_HOPPER_ASM(
      "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(b, i)),
      "r"(bytes)
      : "memory");
}
/** Waits for the end of the phase of this parity; the one before the first has parity 1. */
SLUICE_DEVICE void barrier_wait(Barriers b, int32_t i, uint32_t parity) {
  uint32_t ended = 1;
  do {
    SLUICE_HOPPER_ASM(
        "{\n"
        ".reg .pred p;\n"
        "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
        "selp.u32 %0, 1, 0, p;\n"
        "}"
        : "=r"(ended)
        : "r"(shared_address(b, i)), "r"(parity)
        : "memory");
  } while (!ended);
}
/** Shows this thread's stores to shared memory, barriers' beginnings too, to the async proxy. */
SLUICE_DEVICE void async_fence() {
  SLUICE_HOPPER_ASM("fence.proxy.async.shared::cta;" ::: "memory");
}
/** Waits until `threads` threads, whole warps, are at barrier `id` of 1 to 15. */
SLUICE_DEVICE void group_sync(int32_t id, int32_t threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// ------------------------------------------------------------------------------------------------
// Copies of boxes

/** Begins to copy the box at these coordinates, the innermost first; what lies outside the tensor
 * is zeros. The bytes are there once the barrier's phase that expects them ends. */
template <class T>
SLUICE_DEVICE void load_box(Shared<T> to, int32_t i, const TensorMap &map, int32_t x, int32_t y,
                            int32_t z, Barriers b, int32_t barrier) {
  SLUICE_HOPPER_ASM(
      "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%2, %3, %4}], [%5];" ::"r"(shared_address(to, i)),
      "l"(&map), "r"(x), "r"(y), "r"(z), "r"(shared_address(b, barrier))
      : "memory");
}
template <class T>
SLUICE_DEVICE void load_box(Shared<T> to, int32_t i, const TensorMap &map, int32_t x, int32_t y,
                            int32_t z, int32_t w, Barriers b, int32_t barrier) {
  SLUICE_HOPPER_ASM(
      "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%2, %3, %4, %5}], [%6];" ::"r"(shared_address(to, i)),
      "l"(&map), "r"(x), "r"(y), "r"(z), "r"(w), "r"(shared_address(b, barrier))
      : "memory");
}

// ------------------------------------------------------------------------------------------------
// Registers: all four warps of a group say how many a thread has from here on

/** Gives registers back: to kCount a thread. */
template <int kCount>
SLUICE_DEVICE void give_registers() {
  static_assert(kCount % 8 == 0 && kCount >= 24 && kCount <= 256, "a count that setmaxnreg takes");
  SLUICE_HOPPER_ASM("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kCount));
}
/** Takes registers that others gave back, waiting for them: to kCount a thread. */
template <int kCount>
SLUICE_DEVICE void take_registers() {
  static_assert(kCount % 8 == 0 && kCount >= 24 && kCount <= 256, "a count that setmaxnreg takes");
  SLUICE_HOPPER_ASM("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kCount));
}

// ------------------------------------------------------------------------------------------------
// Products

template <class T>
SLUICE_DEVICE uint64_t matrix_at(uint64_t form, Shared<T> s, int32_t i) {
  return form | (shared_address(s, i) >> 4 & 0x3fff);
}
/** Before the first product that adds to sums other instructions wrote. */
SLUICE_DEVICE void product_fence() { SLUICE_HOPPER_ASM("wgmma.fence.sync.aligned;" ::: "memory"); }
/** Ends a group of products. */
SLUICE_DEVICE void product_commit() {
  SLUICE_HOPPER_ASM("wgmma.commit_group.sync.aligned;" ::: "memory");
}
/** Waits until at most kLeft groups are under way: until then nobody may touch their sums, nor
 * write the matrices that they read. */
template <int kLeft>
SLUICE_DEVICE void product_wait() {
  SLUICE_HOPPER_ASM("wgmma.wait_group.sync.aligned %0;" ::"n"(kLeft) : "memory");
}

/** After the wait for products: what follows reads these sums, and no copy of them from before. */
template <int N>
SLUICE_DEVICE void product_end(float (&c)[N]) {
#pragma unroll
  for (int i = 0; i < N; ++i) asm volatile("" : "+f"(c[i])::"memory");
}

/** Begins c += A B for 64 rows, N columns, 16 of the depth; A and B by descriptors as above. */
template <class T, int N>
SLUICE_DEVICE void product_add(float (&c)[N / 2], uint64_t a, uint64_t b);

#define SLUICE_NAMES_0_31                                                                 \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, " \
  "%19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define SLUICE_NAMES_32_63                                                                \
  "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, " \
  "%49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define SLUICE_NAMES_64_79 \
  "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79"
#define SLUICE_NAMES_80_127                                                               \
  "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, %96, " \
  "%97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, "     \
  "%111, %112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, "  \
  "%125, %126, %127"
#define SLUICE_SUMS_4(c, i) "+f"(c[i]), "+f"(c[i + 1]), "+f"(c[i + 2]), "+f"(c[i + 3])
#define SLUICE_SUMS_16(c, i) \
  SLUICE_SUMS_4(c, i), SLUICE_SUMS_4(c, i + 4), SLUICE_SUMS_4(c, i + 8), SLUICE_SUMS_4(c, i + 12)
#define SLUICE_SUMS_32(c, i) SLUICE_SUMS_16(c, i), SLUICE_SUMS_16(c, i + 16)
#define SLUICE_SUMS_64(c, i) SLUICE_SUMS_32(c, i), SLUICE_SUMS_32(c, i + 32)

// Both scales of the inputs 1; A as it lies, B transposed: columns lie in a row.
#define SLUICE_PRODUCT(T, type, N, names, a_name, b_name, ...)                                  \
  template <>                                                                                   \
  SLUICE_DEVICE void product_add<T, N>(float(&c)[N / 2], uint64_t a, uint64_t b) {              \
    SLUICE_HOPPER_ASM(                                                                          \
        "{\n"                                                                                   \
        ".reg .pred p;\n"                                                                       \
        "setp.eq.u32 p, 0, 0;\n"                                                                \
        "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." type "." type " {" names "}, " a_name \
        ", " b_name                                                                             \
        ", p, 1, 1, 0, 1;\n"                                                                    \
        "}"                                                                                     \
        : __VA_ARGS__                                                                           \
        : "l"(a), "l"(b));                                                                      \
  }
#define SLUICE_PRODUCTS(T, type)                                                                  \
  SLUICE_PRODUCT(T, type, 64, SLUICE_NAMES_0_31, "%32", "%33", SLUICE_SUMS_32(c, 0))              \
  SLUICE_PRODUCT(T, type, 128, SLUICE_NAMES_0_31 ", " SLUICE_NAMES_32_63, "%64", "%65",           \
                 SLUICE_SUMS_64(c, 0))                                                            \
  SLUICE_PRODUCT(T, type, 160, SLUICE_NAMES_0_31 ", " SLUICE_NAMES_32_63 ", " SLUICE_NAMES_64_79, \
                 "%80", "%81", SLUICE_SUMS_64(c, 0), SLUICE_SUMS_16(c, 64))                       \
  SLUICE_PRODUCT(T, type, 256,                                                                    \
                 SLUICE_NAMES_0_31 ", " SLUICE_NAMES_32_63 ", " SLUICE_NAMES_64_79                \
                                   ", " SLUICE_NAMES_80_127,                                      \
                 "%128", "%129", SLUICE_SUMS_64(c, 0), SLUICE_SUMS_64(c, 64))
SLUICE_PRODUCTS(f16, "f16")
SLUICE_PRODUCTS(bf16, "bf16")

#undef SLUICE_PRODUCTS
#undef SLUICE_PRODUCT
#undef SLUICE_SUMS_64
#undef SLUICE_SUMS_32
#undef SLUICE_SUMS_16
#undef SLUICE_SUMS_4
#undef SLUICE_NAMES_80_127
#undef SLUICE_NAMES_64_79
#undef SLUICE_NAMES_32_63
#undef SLUICE_NAMES_0_31

} // namespace sluice::cuda::ptx

#endif
