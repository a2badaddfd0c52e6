/**
 * @file
 * Attention along the frames in float32, operands of any type. A thread block takes one pixel and
 * one head; its warps share out the queries. Keys and values pass through shared memory, kKeys at a
 * time from fixed places, so that a query's result does not depend on the others.
 */
#include "kernels/temporal_problem.hpp"

namespace sluice::cuda {
namespace {

constexpr uint32_t kTimeThreads = 128;
constexpr int32_t kTimeWarps = int32_t(kTimeThreads) / kWarp;
constexpr int32_t kKeys = 32;
/** Channels of a head that a lane holds at most: heads of up to 256 channels. */
constexpr int32_t kPerLane = 8;

/** Floats between keys in shared memory: odd, so that a warp's keys lie in different banks. */
SLUICE_HOST_DEVICE int32_t key_stride(int32_t head_dim) { return head_dim | 1; }

/** Keys [first, first + count) of this pixel and head, float32, [key][key_stride]. */
SLUICE_DEVICE void load_keys(const TimeProblem &p, const Operand &from, int64_t channel,
                             int32_t row, int32_t col, int32_t first, int32_t count,
                             Shared<float> to) {
  for (int32_t i = int32_t(threadIdx.x); i < count * p.head_dim; i += int32_t(kTimeThreads)) {
    const int32_t key = i / p.head_dim, c = i % p.head_dim;
    to.store(key * key_stride(p.head_dim) + c,
             from.load(from.at(first + key, row, col) + channel + c));
  }
}

SLUICE_KERNEL(kTimeThreads, 4)
time_simt(TimeProblem p) {
  const int32_t pixel = int32_t(blockIdx.x), head = int32_t(blockIdx.y);
  const int32_t row = pixel / p.cols, col = pixel % p.cols;
  const int32_t warp = int32_t(threadIdx.x) / kWarp, lane = int32_t(threadIdx.x) % kWarp;
  const int64_t channel = int64_t(head) * p.head_dim;
  const int32_t stride = key_stride(p.head_dim);
  const Shared<float> keys = dynamic_shared<float>(0, kKeys * stride);
  const Shared<float> values = dynamic_shared<float>(4 * kKeys * stride, kKeys * stride);
  const Shared<float> query =
      dynamic_shared<float>(8 * kKeys * stride + 4 * warp * p.head_dim, p.head_dim);
  const int32_t rounds = ceil_div(p.frames, kTimeWarps);
  const int32_t blocks = ceil_div(p.key_frames, kKeys);

  for (int32_t round = 0; round < rounds; ++round) {
    const int32_t q = round * kTimeWarps + warp;
    const bool active = q < p.frames; // a whole warp; all of them meet at the barriers
    if (active) {
      for (int32_t c = lane; c < p.head_dim; c += kWarp) {
        query.store(c, p.q.load(p.q.at(q, row, col) + channel + c) * p.scale);
      }
    }
    warp_sync();
    float peak = -INFINITY, weight = 0.0f, sums[kPerLane] = {};
    for (int32_t b = 0; b < blocks; ++b) {
      const int32_t first = b * kKeys;
      const int32_t count = p.key_frames - first < kKeys ? p.key_frames - first : kKeys;
      if (round == 0 || blocks > 1) {
        block_sync(); // others may still read the keys before
        load_keys(p, p.k, channel, row, col, first, count, keys);
        load_keys(p, p.v, channel, row, col, first, count, values);
        block_sync();
      }
      if (!active) continue;
      // A lane a key.
      const bool seen = lane < count && (!p.causal || first + lane <= q + p.query0);
      float score = -INFINITY;
      if (seen) {
        score = 0.0f;
        for (int32_t c = 0; c < p.head_dim; ++c)
          score = fmaf(query.load(c), keys.load(lane * stride + c), score);
      }
      const float higher = fmaxf(peak, warp_max(score));
      if (higher == -INFINITY) continue; // every key so far is hidden; the same in all lanes
      const float share = seen ? expf(score - higher) : 0.0f;
      const float fade = expf(peak - higher);
      peak = higher;
      weight = weight * fade + warp_sum(share);
#pragma unroll
      for (int i = 0; i < kPerLane; ++i) sums[i] *= fade;
      for (int32_t key = 0; key < count; ++key) {
        const float s = shuffle(share, key);
#pragma unroll
        for (int i = 0; i < kPerLane; ++i) {
          const int32_t c = lane + i * kWarp;
          if (c < p.head_dim) sums[i] = fmaf(s, values.load(key * stride + c), sums[i]);
        }
      }
    }
    warp_sync(); // before the next query is stored
    if (!active) continue;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      const int32_t c = lane + i * kWarp;
      if (c < p.head_dim) p.out.store(p.out.at(q, row, col) + channel + c, sums[i] / weight);
    }
  }
}

} // namespace

cudaError_t run_time_simt(const TimeProblem &p, const Launch &launch_on) {
  const uint32_t shared =
      4 * (2 * uint32_t(kKeys * key_stride(p.head_dim)) + uint32_t(kTimeWarps * p.head_dim));
  if (p.head_dim > kPerLane * kWarp || p.heads > 65535 ||
      shared > uint32_t(launch_on.device.shared_bytes))
    return kNotSupported;
  return launch("time_attention_simt", time_simt,
                {{uint32_t(p.rows) * uint32_t(p.cols), uint32_t(p.heads)}, kTimeThreads, shared},
                launch_on.stream, p);
}

} // namespace sluice::cuda
