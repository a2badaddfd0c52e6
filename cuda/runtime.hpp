/**
 * @file
 * The calls of the CUDA runtime and driver that the plug-in makes, real or emulated, and what
 * becomes of one that fails: a status of the backend table and a sentence.
 */
#pragma once

#include <cstddef>
#include <cstdint>

#ifdef SLUICE_CUDA_EMULATION
#include "emulation/runtime.hpp"
#else
#include <cuda.h>
#include <cuda_runtime.h>
#endif

#include "core/backend.h"
#include "core/error.h"

namespace sluice::cuda {

/** Where a sentence goes that says what failed. */
struct Complaint {
  char *text;
  size_t capacity;
};

/** Writes `<call>: expected it to succeed, got <reason>` and returns the status that it stands
 * for. */
inline int failed(const Complaint &complaint, const char *call, cudaError_t code) {
  // What is not sticky must not be found by a later launch.
  cudaGetLastError();
  const int status = code == cudaErrorMemoryAllocation ? SLUICE_OUT_OF_MEMORY : SLUICE_DEVICE_LOST;
  return fail(status, complaint.text, complaint.capacity, "%s: expected it to succeed, got %s (%s)",
              call, cudaGetErrorString(code), cudaGetErrorName(code));
}

/** Leaves the function with a status where a runtime call fails. */
#define SLUICE_CUDA_TRY(complaint, call)                                              \
  do {                                                                                \
    const cudaError_t code_ = (call);                                                 \
    if (code_ != cudaSuccess) return ::sluice::cuda::failed(complaint, #call, code_); \
  } while (false)

} // namespace sluice::cuda
