#include "queue.hpp"

#include <memory>
#include <new>

#include "dispatch.hpp"

namespace sluice::cuda {
namespace {

/** Opens what a queue consists of; destroy_queue closes what there is. */
int open(sluice_queue &queue, const Complaint &complaint) {
  SLUICE_CUDA_TRY(complaint, cudaSetDevice(queue.device.ordinal));
  SLUICE_CUDA_TRY(complaint, cudaStreamCreateWithFlags(&queue.stream, cudaStreamNonBlocking));
  void *trouble = nullptr;
  SLUICE_CUDA_TRY(complaint, cudaHostAlloc(&trouble, sizeof(int32_t), cudaHostAllocMapped));
  queue.trouble = static_cast<int32_t *>(trouble);
  *queue.trouble = 0;
  for (cudaEvent_t &mark : queue.marks) {
    // Blocking: the driver thread sleeps, instead of spinning, while the device works.
    SLUICE_CUDA_TRY(
        complaint, cudaEventCreateWithFlags(&mark, cudaEventDisableTiming | cudaEventBlockingSync));
  }
  return SLUICE_OK;
}

} // namespace

int create_queue(const Device &device, sluice_queue **out, const Complaint &complaint) {
  auto queue = std::unique_ptr<sluice_queue>(new (std::nothrow) sluice_queue(device));
  if (!queue) {
    return fail(SLUICE_OUT_OF_MEMORY, complaint.text, complaint.capacity,
                "expected a queue, got no memory");
  }
  if (const int status = open(*queue, complaint); status != SLUICE_OK) {
    destroy_queue(queue.release());
    return status;
  }
  *out = queue.release();
  return SLUICE_OK;
}

void destroy_queue(sluice_queue *queue) {
  if (!queue) return;
  cudaSetDevice(queue->device.ordinal);
  if (queue->stream) cudaStreamSynchronize(queue->stream);
  for (cudaEvent_t mark : queue->marks) {
    if (mark) cudaEventDestroy(mark);
  }
  if (queue->trouble) cudaFreeHost(queue->trouble);
  if (queue->stream) cudaStreamDestroy(queue->stream);
  cudaGetLastError();
  delete queue;
}

int submit(sluice_queue &queue, const Header &command, void *const *bases,
           const Complaint &complaint) {
  SLUICE_CUDA_TRY(complaint, cudaSetDevice(queue.device.ordinal));
  const Launch launch{queue.device, queue.stream, bases, queue.trouble};
  if (const int status = dispatch(command, launch, complaint); status != SLUICE_OK) return status;
  queue.submitted += 1;
  if (queue.submitted % sluice_queue::kMarked != 0) return SLUICE_OK;
  const int64_t mark = queue.submitted / sluice_queue::kMarked;
  SLUICE_CUDA_TRY(complaint,
                  cudaEventRecord(queue.marks[mark % sluice_queue::kMarks], queue.stream));
  // The oldest mark is the next to be used again; one that was never recorded counts as reached.
  SLUICE_CUDA_TRY(complaint, cudaEventSynchronize(queue.marks[(mark + 1) % sluice_queue::kMarks]));
  return SLUICE_OK;
}

int finish(sluice_queue &queue, const Complaint &complaint) {
  SLUICE_CUDA_TRY(complaint, cudaSetDevice(queue.device.ordinal));
  SLUICE_CUDA_TRY(complaint, cudaStreamSynchronize(queue.stream));
  if (*static_cast<volatile int32_t *>(queue.trouble) == 0) return SLUICE_OK;
  *queue.trouble = 0;
  return fail(SLUICE_BAD_DATA, complaint.text, complaint.capacity,
              "expected token ids inside the table, got one outside; check the ids");
}

} // namespace sluice::cuda
