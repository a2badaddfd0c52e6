#include "device.hpp"

namespace sluice::cuda {
namespace {

/** Granule where memory is not mapped: what cudaMalloc takes from the system at a time. */
constexpr uint64_t kPlainGranule = uint64_t(2) << 20;
/** First versions of the driver's interface that have every call of VirtualMemoryCalls, and that
 * describe tensors. */
constexpr unsigned kCallsSince = 10020, kTensorMapsSince = 12000;

template <class Call>
bool find(const char *name, Call &call, unsigned since = kCallsSince) {
  void *found = nullptr;
  cudaDriverEntryPointQueryResult result{};
  const cudaError_t code =
      cudaGetDriverEntryPointByVersion(name, &found, since, cudaEnableDefault, &result);
  if (code != cudaSuccess || result != cudaDriverEntryPointSuccess) {
    cudaGetLastError();
    return false;
  }
  call = reinterpret_cast<Call>(found);
  return call != nullptr;
}

VirtualMemoryCalls find_calls() {
  VirtualMemoryCalls calls;
  const bool all = find("cuMemGetAllocationGranularity", calls.granularity) &&
                   find("cuMemAddressReserve", calls.reserve) &&
                   find("cuMemAddressFree", calls.unreserve) && find("cuMemCreate", calls.create) &&
                   find("cuMemRelease", calls.release) && find("cuMemMap", calls.map) &&
                   find("cuMemUnmap", calls.unmap) && find("cuMemSetAccess", calls.set_access);
  return all ? calls : VirtualMemoryCalls{};
}

/** Bytes of a granule of mapped memory; 0 where the device or the driver cannot map. */
uint64_t granule_of(int ordinal) {
  const VirtualMemoryCalls &calls = virtual_memory();
  if (!calls.create) return 0;
  CUmemAllocationProp wanted{};
  wanted.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  wanted.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
  wanted.location.id = ordinal;
  size_t bytes = 0;
  const CUresult code = calls.granularity(&bytes, &wanted, CU_MEM_ALLOC_GRANULARITY_RECOMMENDED);
  return code == CUDA_SUCCESS ? bytes : 0;
}

struct Found {
  std::vector<Device> devices;
  std::string why;
};

std::string version_text(int version) {
  return format("%d.%d", version / 1000, version % 1000 / 10);
}

/** What stands in the way when devices cannot even be counted. */
std::string count_failure(cudaError_t code) {
  int driver = 0, runtime = 0;
  cudaDriverGetVersion(&driver);
  cudaRuntimeGetVersion(&runtime);
  const std::string needed = version_text(runtime);
  if (driver == 0) {
    return "the CUDA plug-in found no NVIDIA driver: expected libcuda.so.1 of a driver for CUDA " +
           needed + "; install NVIDIA's driver, or give the container access to the GPU";
  }
  if (code == cudaErrorInsufficientDriver) {
    return "the CUDA plug-in expected a driver for CUDA " + needed + ", got one for " +
           version_text(driver) + "; update NVIDIA's driver";
  }
  return format("the CUDA plug-in found no device: %s (%s)", cudaGetErrorString(code),
                cudaGetErrorName(code));
}

Found find_devices() {
  Found found;
  int count = 0;
  const cudaError_t counted = cudaGetDeviceCount(&count);
  if (counted != cudaSuccess || count == 0) {
    cudaGetLastError();
    found.why = count_failure(counted == cudaSuccess ? cudaErrorNoDevice : counted);
    return found;
  }
  for (int ordinal = 0; ordinal < count; ++ordinal) {
    cudaDeviceProp properties{};
    if (const cudaError_t code = cudaGetDeviceProperties(&properties, ordinal);
        code != cudaSuccess) {
      cudaGetLastError();
      found.why = format("CUDA device %d cannot be used: %s (%s)", ordinal,
                         cudaGetErrorString(code), cudaGetErrorName(code));
      continue;
    }
    Device device;
    device.ordinal = ordinal;
    device.architecture = properties.major * 10 + properties.minor;
    if (device.architecture < kLeastArchitecture) {
      found.why = format(
          "CUDA device %d cannot be used: expected compute capability 7.5 or newer, got %s of "
          "%d.%d",
          ordinal, properties.name, properties.major, properties.minor);
      continue;
    }
    device.name = properties.name;
    device.multiprocessors = properties.multiProcessorCount;
    device.shared_bytes = int(properties.sharedMemPerBlockOptin);
    device.granule = granule_of(ordinal);
    device.virtual_memory = device.granule != 0;
    if (!device.virtual_memory) device.granule = kPlainGranule;
    found.devices.push_back(device);
  }
  if (!found.devices.empty()) found.why.clear();
  return found;
}

const Found &found() {
  static const Found &result = *new Found(find_devices());
  return result;
}

} // namespace

const std::vector<Device> &devices() { return found().devices; }

const char *why_none() { return found().why.c_str(); }

const VirtualMemoryCalls &virtual_memory() {
  static const VirtualMemoryCalls calls = find_calls();
  return calls;
}

decltype(&cuTensorMapEncodeTiled) tensor_map_encoder() {
  static const auto encoder = [] {
    decltype(&cuTensorMapEncodeTiled) call = nullptr;
    find("cuTensorMapEncodeTiled", call, kTensorMapsSince);
    return call;
  }();
  return encoder;
}

} // namespace sluice::cuda
