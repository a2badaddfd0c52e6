/**
 * @file
 * Copies between host and device through two pinned buffers, so that the processor copies one while
 * the device copies the other.
 */
#pragma once

#include "runtime.hpp"

namespace sluice::cuda {

class Transfer {
 public:
  Transfer() = default;
  ~Transfer();
  Transfer(const Transfer &) = delete;
  Transfer &operator=(const Transfer &) = delete;

  /** Takes stream, buffers and events, once. The device is current here and below. */
  int prepare(const Complaint &complaint);

  int write(char *to, const char *from, uint64_t bytes, const Complaint &complaint);
  int read(char *to, const char *from, uint64_t bytes, const Complaint &complaint);
  int fill(char *to, uint8_t value, uint64_t bytes, const Complaint &complaint);

 private:
  int wait(const Complaint &complaint);

  bool ready_ = false;
  cudaStream_t stream_ = nullptr;
  void *pinned_[2] = {};
  cudaEvent_t done_[2] = {};
};

} // namespace sluice::cuda
