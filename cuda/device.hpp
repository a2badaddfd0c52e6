/**
 * @file
 * The GPUs that can be used: what is known of each, asked once, and why there is none.
 */
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime.hpp"

namespace sluice::cuda {

/** Oldest architecture that kernels are built for, as major * 10 + minor. */
constexpr int kLeastArchitecture = 75;

/** The driver's calls for mapped memory; found at run time, so that the plug-in needs no libcuda to
 * load. */
struct VirtualMemoryCalls {
  decltype(&cuMemGetAllocationGranularity) granularity = nullptr;
  decltype(&cuMemAddressReserve) reserve = nullptr;
  decltype(&cuMemAddressFree) unreserve = nullptr;
  decltype(&cuMemCreate) create = nullptr;
  decltype(&cuMemRelease) release = nullptr;
  decltype(&cuMemMap) map = nullptr;
  decltype(&cuMemUnmap) unmap = nullptr;
  decltype(&cuMemSetAccess) set_access = nullptr;
};

struct Device {
  int ordinal = 0;      ///< as the runtime counts
  int architecture = 0; ///< major * 10 + minor
  int multiprocessors = 0;
  int shared_bytes = 0; ///< most dynamic shared memory of a block, opted in
  std::string name;
  uint64_t granule = 0;        ///< bytes that blocks are made of
  bool virtual_memory = false; ///< whether blocks are mapped; else cudaMalloc
};

/** Usable devices in the runtime's order; asked once. Never destroyed. */
const std::vector<Device> &devices();

/** Why devices() is empty; a sentence. Empty where it is not. */
const char *why_none();

/** The driver's calls; all null where the driver lacks one. */
const VirtualMemoryCalls &virtual_memory();

/** The driver's call that describes a tensor to TMA; null where the driver has none. */
decltype(&cuTensorMapEncodeTiled) tensor_map_encoder();

} // namespace sluice::cuda
