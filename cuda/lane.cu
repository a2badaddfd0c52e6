#include "lane.hpp"

#include <map>
#include <memory>
#include <mutex>
#include <new>

namespace sluice::cuda {
namespace {

/** Idle lanes by device. Never destroyed: a process may exit while runs go on. */
struct Idle {
  std::mutex mutex;
  std::map<int, std::vector<std::unique_ptr<Lane>>> lanes;
};

Idle &idle() {
  static Idle &one = *new Idle;
  return one;
}

} // namespace

int Lane::open(const Complaint &complaint) {
  SLUICE_CUDA_TRY(complaint, cudaSetDevice(device.ordinal));
  SLUICE_CUDA_TRY(complaint, kernels.open());
  void *memory = nullptr;
  SLUICE_CUDA_TRY(complaint, cudaHostAlloc(&memory, sizeof(int32_t), cudaHostAllocMapped));
  trouble = static_cast<int32_t *>(memory);
  *trouble = 0;
  for (cudaEvent_t &end : ends) {
    // Blocking: the driver thread sleeps, instead of spinning, while the device works.
    SLUICE_CUDA_TRY(complaint,
                    cudaEventCreateWithFlags(&end, cudaEventDisableTiming | cudaEventBlockingSync));
  }
  SLUICE_CUDA_TRY(complaint, cudaEventCreateWithFlags(&began, cudaEventDefault));
  SLUICE_CUDA_TRY(complaint, cudaEventCreateWithFlags(&ended, cudaEventBlockingSync));
  return SLUICE_OK;
}

Lane::~Lane() {
  cudaSetDevice(device.ordinal);
  kernels.finish();
  for (cudaEvent_t event : {ends[0], ends[1], began, ended}) {
    if (event) cudaEventDestroy(event);
  }
  if (trouble) cudaFreeHost(trouble);
  cudaGetLastError();
}

int take_lane(const Device &device, Lane **out, const Complaint &complaint) {
  {
    const std::lock_guard lock(idle().mutex);
    std::vector<std::unique_ptr<Lane>> &lanes = idle().lanes[device.ordinal];
    if (!lanes.empty()) {
      *out = lanes.back().release();
      lanes.pop_back();
      return SLUICE_OK;
    }
  }
  auto lane = std::unique_ptr<Lane>(new (std::nothrow) Lane(device));
  if (!lane) {
    return fail(SLUICE_OUT_OF_MEMORY, complaint.text, complaint.capacity,
                "expected a queue, got no memory");
  }
  if (const int status = lane->open(complaint); status != SLUICE_OK) return status;
  *out = lane.release();
  return SLUICE_OK;
}

void return_lane(Lane *lane, bool usable) {
  auto owned = std::unique_ptr<Lane>(lane);
  if (!usable) return;
  const std::lock_guard lock(idle().mutex);
  idle().lanes[lane->device.ordinal].push_back(std::move(owned));
}

void drop_lanes(const Device &device) {
  std::vector<std::unique_ptr<Lane>> lanes;
  const std::lock_guard lock(idle().mutex);
  lanes.swap(idle().lanes[device.ordinal]);
}

} // namespace sluice::cuda
