/**
 * @file
 * How kernels are written and launched. The same source is compiled by nvcc, and by g++ (C++20)
 * against cuda/emulation with SLUICE_CUDA_EMULATION defined.
 *
 * Conventions of a kernel:
 *   - `SLUICE_KERNEL(threads, blocks) name(...)`: a kernel of at most so many threads a block, at
 *     least so many blocks a multiprocessor; templates are welcome. Blocks are whole warps, x only.
 *     `SLUICE_DEVICE` goes before every function that a kernel calls, lambdas excepted.
 *   - Identity: threadIdx.x, blockIdx.{x,y,z}, blockDim.x, gridDim.{x,y,z}, as in CUDA.
 *   - Device memory is a `Global<T>` parameter (`Global<const T>` for reading): g.load(i),
 *     g.store(i, value), and g.load_as<V>(i), g.store_as<V>(i, value) for a vector of elements that
 *     begins at element i; g + n. No bare pointers.
 *   - Shared memory: `SLUICE_SHARED(T, name, count);` for arrays of fixed size, and
 *     `dynamic_shared<T>(byte_offset, count)`; both are `Shared<T>` with the functions of Global.
 *     An array is declared at the outer level of a kernel, so that every thread passes it.
 *   - block_sync() for __syncthreads, warp_sync() for __syncwarp (the only one of the warp's
 *     operations that orders memory), shuffle*, any_lane, all_lanes: whole warps, never in a
 *     divergent branch. atomic_add on int32_t alone: never on floats, whose order would vary.
 *   - 8-bit values go through memory as whole 32-bit words: races are watched by two bytes.
 *   - Everything else that is not C++ (PTX) is in ptx.hpp, of 9.0 alone in ptx_hopper.hpp.
 * Launch with `launch("name", kernel, {grid, threads, shared_bytes}, stream, arguments...)`, which
 * returns what the runtime says; in emulation cudaErrorLaunchFailure stands for the fault that
 * last_fault() tells. Parameters are copied: plain structs.
 */
#pragma once

#include <cstdint>
#include <type_traits>

#ifdef SLUICE_CUDA_EMULATION
#include "emulation/device.hpp"
#else
#include <cuda_runtime.h>
#endif

namespace sluice::cuda {

#ifndef SLUICE_CUDA_EMULATION

#define SLUICE_DEVICE __device__ __forceinline__
#define SLUICE_HOST_DEVICE __host__ __device__ __forceinline__
#define SLUICE_KERNEL(threads, blocks) __global__ void __launch_bounds__(threads, blocks)
#define SLUICE_SHARED(T, name, count)           \
  __shared__ alignas(16) T name##_array[count]; \
  const ::sluice::cuda::Shared<T> name { name##_array }

/** Device memory, or an absent operand. */
template <class T>
struct Global {
  T *data = nullptr;

  SLUICE_HOST_DEVICE bool present() const { return data != nullptr; }
  SLUICE_HOST_DEVICE Global operator+(int64_t n) const { return {data + n}; }
  SLUICE_DEVICE T load(int64_t i) const { return data[i]; }
  template <class U = T, std::enable_if_t<!std::is_const_v<U>, int> = 0>
  SLUICE_DEVICE void store(int64_t i, U value) const {
    data[i] = value;
  }
  template <class V>
  SLUICE_DEVICE V load_as(int64_t i) const {
    return *reinterpret_cast<const V *>(data + i);
  }
  template <class V>
  SLUICE_DEVICE void store_as(int64_t i, V value) const {
    *reinterpret_cast<V *>(data + i) = value;
  }
};

template <class T>
struct Shared {
  T *data;

  SLUICE_DEVICE Shared operator+(int32_t n) const { return {data + n}; }
  SLUICE_DEVICE T load(int32_t i) const { return data[i]; }
  SLUICE_DEVICE void store(int32_t i, T value) const { data[i] = value; }
  template <class V>
  SLUICE_DEVICE V load_as(int32_t i) const {
    return *reinterpret_cast<const V *>(data + i);
  }
  template <class V>
  SLUICE_DEVICE void store_as(int32_t i, V value) const {
    *reinterpret_cast<V *>(data + i) = value;
  }
};

/** Elements [0, count) from byte_offset on of the launch's shared memory. */
template <class T>
SLUICE_DEVICE Shared<T> dynamic_shared(int32_t byte_offset, int32_t) {
  extern __shared__ __align__(1024) unsigned char sluice_dynamic_shared[];
  return {reinterpret_cast<T *>(sluice_dynamic_shared + byte_offset)};
}

SLUICE_DEVICE void block_sync() { __syncthreads(); }
SLUICE_DEVICE void warp_sync() { __syncwarp(); }
template <class T>
SLUICE_DEVICE T shuffle(T value, int32_t lane) {
  return __shfl_sync(0xffffffffu, value, lane);
}
template <class T>
SLUICE_DEVICE T shuffle_xor(T value, int32_t mask) {
  return __shfl_xor_sync(0xffffffffu, value, mask);
}
template <class T>
SLUICE_DEVICE T shuffle_down(T value, int32_t delta) {
  return __shfl_down_sync(0xffffffffu, value, delta);
}
SLUICE_DEVICE bool any_lane(bool value) { return __any_sync(0xffffffffu, value); }
SLUICE_DEVICE bool all_lanes(bool value) { return __all_sync(0xffffffffu, value); }
SLUICE_DEVICE int32_t atomic_add(Global<int32_t> g, int64_t i, int32_t value) {
  return atomicAdd(g.data + i, value);
}

using Stream = cudaStream_t;
using Grid = dim3;

struct LaunchShape {
  Grid grid;
  uint32_t threads;
  uint32_t shared_bytes = 0; ///< dynamic
};

constexpr uint32_t kStaticSharedLimit = 48 * 1024; // more must be asked for

template <class... P, class... A>
cudaError_t launch(const char *, void (*kernel)(P...), const LaunchShape &shape, Stream stream,
                   A... arguments) {
  if (shape.shared_bytes > kStaticSharedLimit) {
    const cudaError_t status =
        cudaFuncSetAttribute(reinterpret_cast<const void *>(kernel),
                             cudaFuncAttributeMaxDynamicSharedMemorySize, int(shape.shared_bytes));
    if (status != cudaSuccess) return status;
  }
  kernel<<<shape.grid, shape.threads, shape.shared_bytes, stream>>>(P(arguments)...);
  return cudaGetLastError();
}

#endif

/** What launch returned, in words. */
inline const char *launch_error(int status) { return cudaGetErrorString(cudaError_t(status)); }

/** Sixteen bytes as one vector. */
struct alignas(16) Words4 {
  uint32_t x, y, z, w;
};
struct alignas(8) Words2 {
  uint32_t x, y;
};
struct alignas(8) Floats2 {
  float x, y;
};
struct alignas(16) Floats4 {
  float x, y, z, w;
};

SLUICE_HOST_DEVICE constexpr int32_t ceil_div(int32_t a, int32_t b) { return (a + b - 1) / b; }

} // namespace sluice::cuda
