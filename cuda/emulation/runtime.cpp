#include "emulation/runtime.hpp"

#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

#include "emulation/machine.hpp"
#include "emulation/stream.hpp"

using sluice::emulation::Claimed;
using sluice::emulation::give;
using sluice::emulation::Work;

namespace {

constexpr size_t kGranule = size_t(2) << 20;
constexpr int kVersion = 13000;

thread_local cudaError_t last_error = cudaSuccess;

cudaError_t noted(cudaError_t code) {
  if (code != cudaSuccess) last_error = code;
  return code;
}

uint64_t number_of(const char *name, uint64_t otherwise) {
  const char *const text = std::getenv(name);
  return text && *text ? std::strtoull(text, nullptr, 10) : otherwise;
}

int device_total() { return int(number_of("SLUICE_EMULATION_DEVICES", 1)); }

/** The device's memory: addresses that are reserved, and those with bytes behind them. */
struct Memory {
  std::mutex mutex;
  size_t used = 0;
  CUmemGenericAllocationHandle next = 1;
  std::map<CUmemGenericAllocationHandle, size_t> handles;
  std::map<uintptr_t, size_t> reserved, mapped, plain;

  size_t total() const { return number_of("SLUICE_EMULATION_MEMORY", uint64_t(4) << 30); }
  bool take(size_t bytes) {
    if (bytes > total() - used) return false;
    used += bytes;
    return true;
  }
};

Memory &memory() {
  static Memory &one = *new Memory;
  return one;
}

/** Erases an entry of exactly these bytes. */
bool forget(std::map<uintptr_t, size_t> &entries, uintptr_t at, size_t bytes) {
  const auto found = entries.find(at);
  if (found == entries.end() || found->second != bytes) return false;
  entries.erase(found);
  return true;
}

/** Addresses aligned to a granule, that fault until they are mapped. */
void *reserve(size_t bytes) {
  char *const base = static_cast<char *>(mmap(nullptr, bytes + kGranule, PROT_NONE,
                                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  if (base == MAP_FAILED) return nullptr;
  char *const aligned = reinterpret_cast<char *>(
      (reinterpret_cast<uintptr_t>(base) + kGranule - 1) / kGranule * kGranule);
  if (aligned > base) munmap(base, size_t(aligned - base));
  munmap(aligned + bytes, kGranule - size_t(aligned - base));
  return aligned;
}

/** A device's fresh memory holds whatever was there: not a number, as any float. */
bool back(void *address, size_t bytes) {
  if (mprotect(address, bytes, PROT_READ | PROT_WRITE) != 0) return false;
  std::memset(address, 0xff, bytes);
  return true;
}

} // namespace

const char *cudaGetErrorString(cudaError_t code) {
  switch (code) {
    case cudaSuccess:
      return "no error";
    case cudaErrorInvalidValue:
      return "invalid argument";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorInsufficientDriver:
      return "CUDA driver version is insufficient for CUDA runtime version";
    case cudaErrorNoDevice:
      return "no CUDA-capable device is detected";
    case cudaErrorInvalidDevice:
      return "invalid device ordinal";
    case cudaErrorLaunchFailure:
      return sluice::emulation::last_fault().c_str();
    case cudaErrorNotSupported:
      return "operation not supported";
    case cudaErrorInvalidResourceHandle:
      return "invalid resource handle";
    case cudaErrorIllegalState:
      return "the operation cannot be performed in the present state";
    case cudaErrorStreamCaptureUnsupported:
      return "operation not permitted when stream is capturing";
    case cudaErrorStreamCaptureInvalidated:
      return "operation failed due to a previous error during capture";
    case cudaErrorStreamCaptureUnjoined:
      return "capturing stream has unjoined work";
    case cudaErrorStreamCaptureIsolation:
      return "dependency created on uncaptured work in another stream";
    case cudaErrorCapturedEvent:
      return "operation not permitted on an event last recorded in a capturing stream";
  }
  return "unknown error";
}

const char *cudaGetErrorName(cudaError_t code) {
  switch (code) {
    case cudaSuccess:
      return "cudaSuccess";
    case cudaErrorInvalidValue:
      return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorInsufficientDriver:
      return "cudaErrorInsufficientDriver";
    case cudaErrorNoDevice:
      return "cudaErrorNoDevice";
    case cudaErrorInvalidDevice:
      return "cudaErrorInvalidDevice";
    case cudaErrorLaunchFailure:
      return "cudaErrorLaunchFailure";
    case cudaErrorNotSupported:
      return "cudaErrorNotSupported";
    case cudaErrorInvalidResourceHandle:
      return "cudaErrorInvalidResourceHandle";
    case cudaErrorIllegalState:
      return "cudaErrorIllegalState";
    case cudaErrorStreamCaptureUnsupported:
      return "cudaErrorStreamCaptureUnsupported";
    case cudaErrorStreamCaptureInvalidated:
      return "cudaErrorStreamCaptureInvalidated";
    case cudaErrorStreamCaptureUnjoined:
      return "cudaErrorStreamCaptureUnjoined";
    case cudaErrorStreamCaptureIsolation:
      return "cudaErrorStreamCaptureIsolation";
    case cudaErrorCapturedEvent:
      return "cudaErrorCapturedEvent";
  }
  return "cudaErrorUnknown";
}

cudaError_t cudaGetLastError() {
  const cudaError_t code = last_error;
  last_error = cudaSuccess;
  return code;
}

// --- Devices ------------------------------------------------------------------------------------

cudaError_t cudaDriverGetVersion(int *version) {
  *version = device_total() > 0 ? kVersion : 0;
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version) {
  *version = kVersion;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int *count) {
  *count = device_total();
  return *count > 0 ? cudaSuccess : noted(cudaErrorInsufficientDriver);
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *out, int ordinal) {
  if (ordinal < 0 || ordinal >= device_total()) return noted(cudaErrorInvalidDevice);
  const sluice::emulation::Limits limits = sluice::emulation::limits();
  *out = {};
  std::snprintf(out->name, sizeof out->name, "emulated GPU");
  out->major = limits.architecture / 10;
  out->minor = limits.architecture % 10;
  out->multiProcessorCount = 4;
  out->sharedMemPerBlockOptin = limits.shared_bytes;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int ordinal) {
  return ordinal >= 0 && ordinal < device_total() ? cudaSuccess : noted(cudaErrorInvalidDevice);
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes) {
  Memory &m = memory();
  const std::lock_guard lock(m.mutex);
  *total_bytes = m.total();
  *free_bytes = m.total() - m.used;
  return cudaSuccess;
}

// --- Memory -------------------------------------------------------------------------------------

cudaError_t cudaMalloc(void **out, size_t bytes) {
  Memory &m = memory();
  const std::lock_guard lock(m.mutex);
  const size_t whole = (bytes + kGranule - 1) / kGranule * kGranule;
  if (!m.take(whole)) return noted(cudaErrorMemoryAllocation);
  void *const address = reserve(whole);
  if (!address || !back(address, whole)) {
    m.used -= whole;
    return noted(cudaErrorMemoryAllocation);
  }
  m.plain[reinterpret_cast<uintptr_t>(address)] = whole;
  *out = address;
  return cudaSuccess;
}

cudaError_t cudaFree(void *address) {
  if (!address) return cudaSuccess;
  Memory &m = memory();
  const std::lock_guard lock(m.mutex);
  const auto found = m.plain.find(reinterpret_cast<uintptr_t>(address));
  if (found == m.plain.end()) return noted(cudaErrorInvalidValue);
  munmap(address, found->second);
  m.used -= found->second;
  m.plain.erase(found);
  return cudaSuccess;
}

cudaError_t cudaHostAlloc(void **out, size_t bytes, unsigned) {
  *out = std::malloc(bytes);
  return *out ? cudaSuccess : noted(cudaErrorMemoryAllocation);
}

cudaError_t cudaFreeHost(void *address) {
  std::free(address);
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  return cudaMemcpy2DAsync(to, bytes, from, bytes, bytes, 1, kind, stream);
}

cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch,
                              size_t width, size_t lines, cudaMemcpyKind, cudaStream_t stream) {
  if (width > to_pitch || width > from_pitch) return noted(cudaErrorInvalidValue);
  char *const out = static_cast<char *>(to);
  const char *const in = static_cast<const char *>(from);
  const auto span = [&](const char *first, size_t pitch, bool written) {
    const uint64_t begin = reinterpret_cast<uint64_t>(first);
    return Claimed{begin, lines ? begin + (lines - 1) * pitch + width : begin, written};
  };
  const auto copy = [=] {
    for (size_t i = 0; i < lines; ++i) std::memcpy(out + i * to_pitch, in + i * from_pitch, width);
    return cudaSuccess;
  };
  const auto poison = [=] {
    for (size_t i = 0; i < lines; ++i) std::memset(out + i * to_pitch, 0xff, width);
  };
  return noted(give(stream, {Work::Kind::copy,
                             "copy",
                             copy,
                             {span(out, to_pitch, true), span(in, from_pitch, false)},
                             poison}));
}

cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t stream) {
  const uint64_t address = reinterpret_cast<uint64_t>(to);
  const auto fill = [=] {
    std::memset(to, value, bytes);
    return cudaSuccess;
  };
  return noted(
      give(stream, {Work::Kind::fill, "fill", fill, {{address, address + bytes, true}}, {}}));
}

// --- The driver's mapped memory -----------------------------------------------------------------

CUresult cuMemGetAllocationGranularity(size_t *bytes, const CUmemAllocationProp *,
                                       CUmemAllocationGranularity_flags) {
  *bytes = kGranule;
  return CUDA_SUCCESS;
}

CUresult cuMemAddressReserve(CUdeviceptr *out, size_t bytes, size_t, CUdeviceptr,
                             unsigned long long) {
  if (bytes == 0 || bytes % kGranule) return CUDA_ERROR_INVALID_VALUE;
  void *const address = reserve(bytes);
  if (!address) return CUDA_ERROR_OUT_OF_MEMORY;
  Memory &m = memory();
  const std::lock_guard lock(m.mutex);
  m.reserved[reinterpret_cast<uintptr_t>(address)] = bytes;
  *out = reinterpret_cast<CUdeviceptr>(address);
  return CUDA_SUCCESS;
}

CUresult cuMemAddressFree(CUdeviceptr address, size_t bytes) {
  Memory &m = memory();
  const std::lock_guard lock(m.mutex);
  if (m.mapped.count(address) || !forget(m.reserved, address, bytes))
    return CUDA_ERROR_INVALID_VALUE;
  munmap(reinterpret_cast<void *>(address), bytes);
  return CUDA_SUCCESS;
}

CUresult cuMemCreate(CUmemGenericAllocationHandle *out, size_t bytes, const CUmemAllocationProp *,
                     unsigned long long) {
  if (bytes == 0 || bytes % kGranule) return CUDA_ERROR_INVALID_VALUE;
  Memory &m = memory();
  const std::lock_guard lock(m.mutex);
  if (!m.take(bytes)) return CUDA_ERROR_OUT_OF_MEMORY;
  *out = m.next++;
  m.handles[*out] = bytes;
  return CUDA_SUCCESS;
}

CUresult cuMemRelease(CUmemGenericAllocationHandle handle) {
  Memory &m = memory();
  const std::lock_guard lock(m.mutex);
  const auto found = m.handles.find(handle);
  if (found == m.handles.end()) return CUDA_ERROR_INVALID_VALUE;
  m.used -= found->second;
  m.handles.erase(found);
  return CUDA_SUCCESS;
}

CUresult cuMemMap(CUdeviceptr address, size_t bytes, size_t offset,
                  CUmemGenericAllocationHandle handle, unsigned long long) {
  Memory &m = memory();
  const std::lock_guard lock(m.mutex);
  const auto range = m.reserved.find(address);
  const auto held = m.handles.find(handle);
  if (range == m.reserved.end() || range->second < bytes || held == m.handles.end() ||
      held->second != bytes || offset != 0)
    return CUDA_ERROR_INVALID_VALUE;
  m.mapped[address] = bytes;
  return CUDA_SUCCESS;
}

CUresult cuMemUnmap(CUdeviceptr address, size_t bytes) {
  Memory &m = memory();
  const std::lock_guard lock(m.mutex);
  if (!forget(m.mapped, address, bytes)) return CUDA_ERROR_INVALID_VALUE;
  mprotect(reinterpret_cast<void *>(address), bytes, PROT_NONE);
  return CUDA_SUCCESS;
}

CUresult cuMemSetAccess(CUdeviceptr address, size_t bytes, const CUmemAccessDesc *, size_t) {
  Memory &m = memory();
  const std::lock_guard lock(m.mutex);
  const auto found = m.mapped.find(address);
  if (found == m.mapped.end() || found->second != bytes) return CUDA_ERROR_INVALID_VALUE;
  return back(reinterpret_cast<void *>(address), bytes) ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

cudaError_t cudaGetDriverEntryPointByVersion(const char *name, void **out, unsigned,
                                             unsigned long long,
                                             cudaDriverEntryPointQueryResult *result) {
  const std::pair<const char *, void *> calls[] = {
      {"cuMemGetAllocationGranularity", reinterpret_cast<void *>(cuMemGetAllocationGranularity)},
      {"cuMemAddressReserve", reinterpret_cast<void *>(cuMemAddressReserve)},
      {"cuMemAddressFree", reinterpret_cast<void *>(cuMemAddressFree)},
      {"cuMemCreate", reinterpret_cast<void *>(cuMemCreate)},
      {"cuMemRelease", reinterpret_cast<void *>(cuMemRelease)},
      {"cuMemMap", reinterpret_cast<void *>(cuMemMap)},
      {"cuMemUnmap", reinterpret_cast<void *>(cuMemUnmap)},
      {"cuMemSetAccess", reinterpret_cast<void *>(cuMemSetAccess)},
      {"cuTensorMapEncodeTiled", reinterpret_cast<void *>(cuTensorMapEncodeTiled)},
  };
  *out = nullptr;
  *result = cudaDriverEntryPointSymbolNotFound;
  if (number_of("SLUICE_EMULATION_PLAIN", 0)) return cudaSuccess;
  for (const auto &[known, call] : calls) {
    if (std::strcmp(known, name) != 0) continue;
    *out = call;
    *result = cudaDriverEntryPointSuccess;
  }
  return cudaSuccess;
}
