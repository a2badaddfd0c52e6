#include "copies.hpp"

namespace sluice::cuda {
namespace {

/** Plane by plane; the addresses say which side is the host's. */
cudaError_t copy(const CopyCommand &c, void *const *bases, cudaStream_t stream) {
  const size_t size = c.source.dtype == DType::f16 || c.source.dtype == DType::bf16 ? 2 : 4;
  const char *source = static_cast<const char *>(bases[c.source.slot]) + c.source.offset();
  char *out = static_cast<char *>(bases[c.out.slot]) + c.out.offset();
  // A frame's rows follow each other in every tensor; cols, too, where both sides are dense.
  const bool dense = c.source.stride_w == c.channels && c.out.stride_w == c.channels;
  const int32_t planes = dense ? c.frames : c.frames * c.rows;
  const size_t width = size_t(dense ? c.cols * c.channels : c.channels) * size;
  const int32_t lines = dense ? c.rows : c.cols;
  for (int32_t i = 0; i < planes; ++i) {
    const int32_t f = dense ? i : i / c.rows, h = dense ? 0 : i % c.rows;
    const auto start = [&](const View &v) {
      return size_t(int64_t(f) * v.stride_f + int64_t(h) * v.stride_h) * size;
    };
    const auto pitch = [&](const View &v) {
      return lines > 1 ? size_t(dense ? v.stride_h : v.stride_w) * size : width;
    };
    const cudaError_t code =
        cudaMemcpy2DAsync(out + start(c.out), pitch(c.out), source + start(c.source),
                          pitch(c.source), width, size_t(lines), cudaMemcpyDefault, stream);
    if (code != cudaSuccess) return code;
  }
  return cudaSuccess;
}

} // namespace

Copies::~Copies() {
  if (stream_) cudaStreamSynchronize(stream_);
  for (const Open &open : open_) cudaEventDestroy(open.done);
  for (cudaEvent_t event : spare_) cudaEventDestroy(event);
  if (before_) cudaEventDestroy(before_);
  if (stream_) cudaStreamDestroy(stream_);
}

cudaError_t Copies::take_event(cudaEvent_t &event) {
  if (spare_.empty()) return cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
  event = spare_.back();
  spare_.pop_back();
  return cudaSuccess;
}

cudaError_t Copies::begin(const CopyCommand &command, void *const *bases, cudaStream_t kernels) {
  if (command.ticket == 0) return copy(command, bases, kernels);
  cudaError_t code = cudaSuccess;
  if (!stream_) code = cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking);
  if (code == cudaSuccess && !before_)
    code = cudaEventCreateWithFlags(&before_, cudaEventDisableTiming);
  cudaEvent_t done = nullptr;
  if (code == cudaSuccess) code = take_event(done);
  if (code != cudaSuccess) return code;
  open_.push_back({command.ticket, done});
  code = cudaEventRecord(before_, kernels);
  if (code == cudaSuccess) code = cudaStreamWaitEvent(stream_, before_, 0);
  if (code == cudaSuccess) code = copy(command, bases, stream_);
  return code == cudaSuccess ? cudaEventRecord(done, stream_) : code;
}

cudaError_t Copies::join(int32_t ticket, cudaStream_t kernels) {
  cudaEvent_t last = nullptr;
  while (!open_.empty() && open_.front().ticket <= ticket) {
    last = open_.front().done;
    spare_.push_back(last);
    open_.pop_front();
  }
  // The copies are in order: with the last one all are done.
  return last ? cudaStreamWaitEvent(kernels, last, 0) : cudaSuccess;
}

cudaError_t Copies::join_all(cudaStream_t kernels) {
  return open_.empty() ? cudaSuccess : join(open_.back().ticket, kernels);
}

cudaError_t Copies::finish() {
  for (const Open &open : open_) spare_.push_back(open.done);
  open_.clear();
  return stream_ ? cudaStreamSynchronize(stream_) : cudaSuccess;
}

} // namespace sluice::cuda
