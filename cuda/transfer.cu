#include "transfer.hpp"

#include <algorithm>
#include <cstring>

namespace sluice::cuda {
namespace {

/** Bytes of one of the two pinned buffers. */
constexpr uint64_t kPiece = uint64_t(4) << 20;

} // namespace

Transfer::~Transfer() {
  if (stream_) cudaStreamSynchronize(stream_);
  for (int i = 0; i < 2; ++i) {
    if (done_[i]) cudaEventDestroy(done_[i]);
    if (pinned_[i]) cudaFreeHost(pinned_[i]);
  }
  if (stream_) cudaStreamDestroy(stream_);
}

int Transfer::prepare(const Complaint &complaint) {
  if (ready_) return SLUICE_OK;
  if (!stream_) {
    SLUICE_CUDA_TRY(complaint, cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
  }
  for (int i = 0; i < 2; ++i) {
    if (!pinned_[i]) {
      SLUICE_CUDA_TRY(complaint, cudaHostAlloc(&pinned_[i], kPiece, cudaHostAllocDefault));
    }
    if (!done_[i]) {
      SLUICE_CUDA_TRY(complaint, cudaEventCreateWithFlags(&done_[i], cudaEventDisableTiming));
    }
  }
  ready_ = true;
  return SLUICE_OK;
}

int Transfer::write(char *to, const char *from, uint64_t bytes, const Complaint &complaint) {
  int piece = 0;
  for (uint64_t at = 0; at < bytes; at += kPiece, piece ^= 1) {
    const uint64_t size = std::min(kPiece, bytes - at);
    // The copy that reads this buffer since two pieces ago.
    SLUICE_CUDA_TRY(complaint, cudaEventSynchronize(done_[piece]));
    memcpy(pinned_[piece], from + at, size);
    SLUICE_CUDA_TRY(
        complaint, cudaMemcpyAsync(to + at, pinned_[piece], size, cudaMemcpyHostToDevice, stream_));
    SLUICE_CUDA_TRY(complaint, cudaEventRecord(done_[piece], stream_));
  }
  return wait(complaint);
}

int Transfer::read(char *to, const char *from, uint64_t bytes, const Complaint &complaint) {
  const uint64_t pieces = (bytes + kPiece - 1) / kPiece;
  for (uint64_t i = 0; i <= pieces; ++i) {
    if (i < pieces) {
      const uint64_t at = i * kPiece;
      SLUICE_CUDA_TRY(complaint,
                      cudaMemcpyAsync(pinned_[i % 2], from + at, std::min(kPiece, bytes - at),
                                      cudaMemcpyDeviceToHost, stream_));
      SLUICE_CUDA_TRY(complaint, cudaEventRecord(done_[i % 2], stream_));
    }
    if (i == 0) continue;
    const uint64_t at = (i - 1) * kPiece;
    SLUICE_CUDA_TRY(complaint, cudaEventSynchronize(done_[(i - 1) % 2]));
    memcpy(to + at, pinned_[(i - 1) % 2], std::min(kPiece, bytes - at));
  }
  return SLUICE_OK;
}

int Transfer::fill(char *to, uint8_t value, uint64_t bytes, const Complaint &complaint) {
  SLUICE_CUDA_TRY(complaint, cudaMemsetAsync(to, value, bytes, stream_));
  return wait(complaint);
}

int Transfer::wait(const Complaint &complaint) {
  SLUICE_CUDA_TRY(complaint, cudaStreamSynchronize(stream_));
  return SLUICE_OK;
}

} // namespace sluice::cuda
