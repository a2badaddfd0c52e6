/**
 * @file
 * The two streams that a lane's kernels run on, and the waits between them (overlap.hpp says
 * which). A segment begins and ends on the main one: what comes before and after it needs to know
 * no other.
 */
#pragma once

#include <vector>

#include "overlap.hpp"

namespace sluice::cuda {

class KernelStreams {
 public:
  KernelStreams() = default;
  ~KernelStreams();
  KernelStreams(const KernelStreams &) = delete;
  KernelStreams &operator=(const KernelStreams &) = delete;

  cudaError_t open();

  cudaStream_t main() const { return streams_[kMainStream]; }
  cudaStream_t of(const Placement &placement) const { return streams_[placement.stream]; }

  /** Before the first command of a segment. */
  cudaError_t begin(const std::vector<Placement> &placements);
  /** Before a command's kernels are launched, and after. */
  cudaError_t enter(const Placement &placement);
  cudaError_t leave(const Placement &placement, size_t index);
  /** After a segment's last command, or the one that failed: the main stream waits for the other.
   */
  cudaError_t end();
  /** Waits on the host. */
  cudaError_t finish();

 private:
  cudaError_t event(size_t index, cudaEvent_t &out);

  cudaStream_t streams_[kKernelStreams] = {};
  cudaEvent_t begun_ = nullptr, ended_ = nullptr; ///< of a segment
  std::vector<cudaEvent_t> events_;               ///< by command of a segment
  bool side_is_open_ = false;                     ///< it waits for this segment's begin
};

} // namespace sluice::cuda
