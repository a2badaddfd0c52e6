#include "kernel_streams.hpp"

#include <algorithm>

namespace sluice::cuda {

KernelStreams::~KernelStreams() {
  for (cudaStream_t stream : streams_) {
    if (stream) cudaStreamSynchronize(stream);
  }
  for (cudaEvent_t event : events_) {
    if (event) cudaEventDestroy(event);
  }
  for (cudaEvent_t event : {begun_, ended_}) {
    if (event) cudaEventDestroy(event);
  }
  for (cudaStream_t stream : streams_) {
    if (stream) cudaStreamDestroy(stream);
  }
}

cudaError_t KernelStreams::open() {
  cudaError_t code = cudaSuccess;
  for (cudaStream_t &stream : streams_) {
    if (code == cudaSuccess) code = cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
  }
  for (cudaEvent_t *event : {&begun_, &ended_}) {
    if (code == cudaSuccess) code = cudaEventCreateWithFlags(event, cudaEventDisableTiming);
  }
  return code;
}

cudaError_t KernelStreams::event(size_t index, cudaEvent_t &out) {
  if (events_.size() <= index) events_.resize(index + 1);
  cudaEvent_t &event = events_[index];
  const cudaError_t code =
      event ? cudaSuccess : cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
  out = event;
  return code;
}

cudaError_t KernelStreams::begin(const std::vector<Placement> &placements) {
  side_is_open_ = false;
  const bool is_needed = std::any_of(placements.begin(), placements.end(),
                                     [](const Placement &p) { return p.stream == kSideStream; });
  return is_needed ? cudaEventRecord(begun_, main()) : cudaSuccess;
}

cudaError_t KernelStreams::enter(const Placement &placement) {
  cudaError_t code = cudaSuccess;
  if (placement.stream == kSideStream && !side_is_open_) {
    side_is_open_ = true;
    code = cudaStreamWaitEvent(of(placement), begun_, 0);
  }
  if (code != cudaSuccess || placement.waits_for == kNone) return code;
  return cudaStreamWaitEvent(of(placement), events_[size_t(placement.waits_for)], 0);
}

cudaError_t KernelStreams::leave(const Placement &placement, size_t index) {
  if (!placement.is_waited_for) return cudaSuccess;
  cudaEvent_t passed = nullptr;
  const cudaError_t code = event(index, passed);
  return code == cudaSuccess ? cudaEventRecord(passed, of(placement)) : code;
}

cudaError_t KernelStreams::end() {
  if (!side_is_open_) return cudaSuccess;
  side_is_open_ = false;
  const cudaError_t code = cudaEventRecord(ended_, streams_[kSideStream]);
  return code == cudaSuccess ? cudaStreamWaitEvent(main(), ended_, 0) : code;
}

cudaError_t KernelStreams::finish() {
  for (cudaStream_t stream : streams_) {
    if (const cudaError_t code = cudaStreamSynchronize(stream); code != cudaSuccess) return code;
  }
  return cudaSuccess;
}

} // namespace sluice::cuda
