#include "memory.hpp"

#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <new>

#include "lane.hpp"
#include "transfer.hpp"

namespace sluice::cuda {
namespace {

using ull = unsigned long long;

/** What a device's blocks share. Their calls take turns. */
struct Shared {
  std::mutex mutex;
  uint64_t bytes = 0, blocks = 0;
  std::unique_ptr<Transfer> transfer;
};

/** Never destroyed: blocks may outlive the static destructors of a process that exits. */
Shared &shared_of(const Device &device) {
  static std::mutex &mutex = *new std::mutex;
  static std::map<int, Shared> &devices = *new std::map<int, Shared>;
  const std::lock_guard lock(mutex);
  return devices[device.ordinal];
}

/** Runs a copy with the device current and its transfer buffers at hand. */
template <class Body>
int with_transfer(const Device &device, Shared &shared, const Complaint &complaint, Body body) {
  SLUICE_CUDA_TRY(complaint, cudaSetDevice(device.ordinal));
  if (!shared.transfer) shared.transfer = std::make_unique<Transfer>();
  const int status = shared.transfer->prepare(complaint);
  return status == SLUICE_OK ? body(*shared.transfer) : status;
}

// --- Memory behind a block ----------------------------------------------------------------------

/** Undoes map_memory, also one that stopped half-way. */
void unmap_memory(sluice_block &block, bool mapped) {
  const VirtualMemoryCalls &calls = virtual_memory();
  const auto address = reinterpret_cast<CUdeviceptr>(block.address);
  if (mapped) calls.unmap(address, block.bytes);
  if (block.handle) calls.release(block.handle);
  if (address) calls.unreserve(address, block.bytes);
  block.address = nullptr;
  block.handle = 0;
}

int map_memory(sluice_block &block, const Complaint &complaint) {
  const VirtualMemoryCalls &calls = virtual_memory();
  CUmemAllocationProp wanted{};
  wanted.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  wanted.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
  wanted.location.id = block.device.ordinal;
  CUdeviceptr address = 0;
  bool mapped = false;
  const char *step = "cuMemAddressReserve";
  CUresult code = calls.reserve(&address, block.bytes, block.device.granule, 0, 0);
  if (code == CUDA_SUCCESS) {
    block.address = reinterpret_cast<void *>(address);
    step = "cuMemCreate";
    code = calls.create(&block.handle, block.bytes, &wanted, 0);
    if (code != CUDA_SUCCESS) block.handle = 0;
  }
  if (code == CUDA_SUCCESS) {
    step = "cuMemMap";
    code = calls.map(address, block.bytes, 0, block.handle, 0);
    mapped = code == CUDA_SUCCESS;
  }
  if (code == CUDA_SUCCESS) {
    step = "cuMemSetAccess";
    CUmemAccessDesc access{};
    access.location = wanted.location;
    access.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
    code = calls.set_access(address, block.bytes, &access, 1);
  }
  if (code == CUDA_SUCCESS) return SLUICE_OK;
  unmap_memory(block, mapped);
  const int status = code == CUDA_ERROR_OUT_OF_MEMORY ? SLUICE_OUT_OF_MEMORY : SLUICE_DEVICE_LOST;
  return fail(status, complaint.text, complaint.capacity,
              "%s: expected it to succeed, got error %d of the driver", step, int(code));
}

int take_memory(sluice_block &block, const Complaint &complaint) {
  if (block.device.virtual_memory) return map_memory(block, complaint);
  SLUICE_CUDA_TRY(complaint, cudaMalloc(&block.address, block.bytes));
  return SLUICE_OK;
}

void give_memory(sluice_block &block) {
  if (!block.address) return;
  if (block.handle) return unmap_memory(block, true);
  cudaFree(block.address);
  block.address = nullptr;
}

/** The sentence of a refusal: what was asked for, what there is, what blocks hold. */
int out_of_memory(const Device &device, uint64_t bytes, uint64_t in_use,
                  const Complaint &complaint) {
  size_t free_bytes = 0, total_bytes = 0;
  if (cudaMemGetInfo(&free_bytes, &total_bytes) != cudaSuccess) cudaGetLastError();
  return fail(SLUICE_OUT_OF_MEMORY, complaint.text, complaint.capacity,
              "createBlock: expected %llu bytes of %s, got none: %llu of %llu are free, %llu are "
              "in use by blocks; lower the budget",
              ull(bytes), device.name.c_str(), ull(free_bytes), ull(total_bytes), ull(in_use));
}

int create_host_block(const Device &device, uint64_t bytes, sluice_block **out,
                      const Complaint &complaint) {
  SLUICE_CUDA_TRY(complaint, cudaSetDevice(device.ordinal));
  auto block = std::unique_ptr<sluice_block>(new (std::nothrow) sluice_block{device, bytes});
  cudaError_t code = cudaErrorMemoryAllocation;
  if (block) code = cudaHostAlloc(&block->address, bytes, cudaHostAllocPortable);
  if (code == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    return fail(SLUICE_OUT_OF_MEMORY, complaint.text, complaint.capacity,
                "createBlock: expected %llu bytes of pinned host memory, got none; close other "
                "programs or raise the budget, so that less is kept on the host",
                ull(bytes));
  }
  if (code != cudaSuccess) return failed(complaint, "cudaHostAlloc", code);
  memset(block->address, 0, bytes);
  block->host = true;
  *out = block.release();
  return SLUICE_OK;
}

} // namespace

int create_block(const Device &device, uint64_t bytes, bool host, sluice_block **out,
                 const Complaint &complaint) {
  if (host) return create_host_block(device, bytes, out, complaint);
  Shared &shared = shared_of(device);
  const std::lock_guard lock(shared.mutex);
  SLUICE_CUDA_TRY(complaint, cudaSetDevice(device.ordinal));
  auto block = std::unique_ptr<sluice_block>(new (std::nothrow) sluice_block{device, bytes});
  int status = block ? take_memory(*block, complaint) : int(SLUICE_OUT_OF_MEMORY);
  if (status == SLUICE_OUT_OF_MEMORY) return out_of_memory(device, bytes, shared.bytes, complaint);
  if (status != SLUICE_OK) return status;
  status = with_transfer(device, shared, complaint, [&](Transfer &transfer) {
    return transfer.fill(static_cast<char *>(block->address), 0, bytes, complaint);
  });
  if (status != SLUICE_OK) {
    give_memory(*block);
    if (shared.blocks == 0) shared.transfer.reset();
    return status;
  }
  shared.bytes += bytes;
  shared.blocks += 1;
  *out = block.release();
  return SLUICE_OK;
}

void destroy_block(sluice_block *block) {
  if (!block) return;
  if (block->host) {
    cudaFreeHost(block->address);
    cudaGetLastError();
    delete block;
    return;
  }
  Shared &shared = shared_of(block->device);
  const std::lock_guard lock(shared.mutex);
  cudaSetDevice(block->device.ordinal);
  give_memory(*block);
  shared.bytes -= block->bytes;
  shared.blocks -= 1;
  if (shared.blocks == 0) {
    shared.transfer.reset();
    drop_lanes(block->device);
  }
  cudaGetLastError();
  delete block;
}

namespace {

/** Copies have no room for a sentence: the addon names the call and the status. */
template <class Body>
int copy(sluice_block &block, Body body) {
  char text[256];
  const Complaint complaint{text, sizeof text};
  Shared &shared = shared_of(block.device);
  const std::lock_guard lock(shared.mutex);
  return with_transfer(block.device, shared, complaint,
                       [&](Transfer &transfer) { return body(transfer, complaint); });
}

char *at(const sluice_block &block, uint64_t offset) {
  return static_cast<char *>(block.address) + offset;
}

} // namespace

int write_block(sluice_block &block, uint64_t offset, const void *data, uint64_t bytes) {
  if (block.host) {
    memcpy(at(block, offset), data, bytes);
    return SLUICE_OK;
  }
  return copy(block, [&](Transfer &transfer, const Complaint &complaint) {
    return transfer.write(at(block, offset), static_cast<const char *>(data), bytes, complaint);
  });
}

int read_block(sluice_block &block, uint64_t offset, void *data, uint64_t bytes) {
  if (block.host) {
    memcpy(data, at(block, offset), bytes);
    return SLUICE_OK;
  }
  return copy(block, [&](Transfer &transfer, const Complaint &complaint) {
    return transfer.read(static_cast<char *>(data), at(block, offset), bytes, complaint);
  });
}

int fill_block(sluice_block &block, uint64_t offset, uint64_t bytes, uint8_t value) {
  if (block.host) {
    memset(at(block, offset), value, bytes);
    return SLUICE_OK;
  }
  return copy(block, [&](Transfer &transfer, const Complaint &complaint) {
    return transfer.fill(at(block, offset), value, bytes, complaint);
  });
}

} // namespace sluice::cuda
