/**
 * @file
 * Attention in float32, operands of any type: a warp takes four queries, a lane a key. Keys and
 * values pass through shared memory 32 tokens and 64 channels at a time.
 */
#include "kernels/attention_problem.hpp"

namespace sluice::cuda {
namespace {

constexpr int32_t kWarps = 4, kSimtThreads = 32 * kWarps;
constexpr int32_t kEach = 4; ///< queries of a warp
constexpr int32_t kQueries = kWarps * kEach;
constexpr int32_t kKeys = kWarp;
constexpr int32_t kSlice = 64;           ///< channels at a time
constexpr int32_t kStride = kSlice + 4;  ///< floats between tokens: vectors meet no bank twice
constexpr int32_t kWeightStride = kKeys; ///< of the weights of a query

/** Channels [channel, channel + kSlice) of tokens [first, first + count), scaled; zeros beyond. */
SLUICE_DEVICE void load_slice(const AttentionProblem &p, const TokenView &from,
                              const AttentionPart &part, int32_t first, int32_t count, int32_t end,
                              int32_t channel, float scale, Shared<float> to, int32_t stride) {
  for (int32_t i = int32_t(threadIdx.x); i < count * kSlice; i += kSimtThreads) {
    const int32_t row = i / kSlice, c = i % kSlice;
    float x = 0.0f;
    if (first + row < end && channel + c < p.head_dim)
      x = from.data.load(from.at(part.frame, first + row) + part.channel + channel + c);
    to.store(row * stride + c, x * scale);
  }
}

SLUICE_DEVICE void read4(Shared<float> from, int32_t at, float (&x)[4]) {
  const Floats4 v = from.load_as<Floats4>(at);
  x[0] = v.x, x[1] = v.y, x[2] = v.z, x[3] = v.w;
}

/** Heads of at most kSlices * kSlice channels. */
template <int kSlices>
SLUICE_KERNEL(kSimtThreads, 1)
attention_simt(const AttentionProblem p) {
  const AttentionPart part = attention_part(p, kQueries);
  const int32_t warp = int32_t(threadIdx.x) / kWarp, lane = int32_t(threadIdx.x) % kWarp;
  constexpr int32_t kQueryStride = kSlices * kSlice;
  const Shared<float> queries = dynamic_shared<float>(0, kQueries * kQueryStride);
  SLUICE_SHARED(float, tokens, kKeys *kStride);
  SLUICE_SHARED(float, shares, kQueries *kWeightStride);
  const int32_t slices = ceil_div(p.head_dim, kSlice);
  for (int32_t s = 0; s < slices; ++s)
    load_slice(p, p.q, part, part.first_query, kQueries, p.tokens, s * kSlice, p.scale,
               queries + s * kSlice, kQueryStride);

  const int32_t first_row = warp * kEach; // of this warp's queries in the tile
  float peak[kEach], weight[kEach] = {}, out[kEach][kSlices][2] = {};
#pragma unroll
  for (int i = 0; i < kEach; ++i) peak[i] = -INFINITY;
  for (int32_t first = 0; first < part.keys; first += kKeys) {
    float scores[kEach] = {};
    for (int32_t s = 0; s < slices; ++s) {
      block_sync(); // others may still read the tokens before
      load_slice(p, p.k, part, first, kKeys, p.key_tokens, s * kSlice, 1.0f, tokens, kStride);
      block_sync();
      for (int32_t c = 0; c < kSlice; c += 4) {
        float k[4], q[4];
        read4(tokens, lane * kStride + c, k);
#pragma unroll
        for (int i = 0; i < kEach; ++i) {
          read4(queries, (first_row + i) * kQueryStride + s * kSlice + c, q);
#pragma unroll
          for (int e = 0; e < 4; ++e) scores[i] = fmaf(q[e], k[e], scores[i]);
        }
      }
    }
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int64_t query = int64_t(p.query0) + part.first_query + first_row + i;
      const int32_t key = first + lane;
      const bool seen = key < p.key_tokens && (!p.causal || key <= query);
      const float most = fmaxf(peak[i], warp_max(seen ? scores[i] : -INFINITY));
      const float share = seen ? expf(scores[i] - most) : 0.0f;
      const float fade = expf(peak[i] - most);
      peak[i] = most;
      weight[i] = weight[i] * fade + warp_sum(share);
#pragma unroll
      for (int s = 0; s < kSlices; ++s) out[i][s][0] *= fade, out[i][s][1] *= fade;
      shares.store((first_row + i) * kWeightStride + lane, share);
    }
#pragma unroll
    for (int s = 0; s < kSlices; ++s) {
      if (s >= slices) break;
      block_sync();
      load_slice(p, p.v, part, first, kKeys, p.key_tokens, s * kSlice, 1.0f, tokens, kStride);
      block_sync();
      for (int32_t key = 0; key < kKeys; key += 4) {
        Floats2 v[4];
#pragma unroll
        for (int e = 0; e < 4; ++e) v[e] = tokens.load_as<Floats2>((key + e) * kStride + 2 * lane);
#pragma unroll
        for (int i = 0; i < kEach; ++i) {
          float w[4];
          read4(shares, (first_row + i) * kWeightStride + key, w);
#pragma unroll
          for (int e = 0; e < 4; ++e) {
            out[i][s][0] = fmaf(w[e], v[e].x, out[i][s][0]);
            out[i][s][1] = fmaf(w[e], v[e].y, out[i][s][1]);
          }
        }
      }
    }
  }

#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const int32_t token = part.first_query + first_row + i;
    if (token >= p.tokens) continue;
    const int64_t at = p.out.at(part.frame, token) + part.channel;
#pragma unroll
    for (int s = 0; s < kSlices; ++s) {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int32_t c = s * kSlice + 2 * lane + e;
        // Hidden keys may turn the sign of a zero: + 0 makes both the same.
        if (c < p.head_dim) p.out.data.store(at + c, out[i][s][e] / weight[i] + 0.0f);
      }
    }
  }
}

template <int kSlices>
cudaError_t launch_simt(const AttentionProblem &p, int32_t batch, const Launch &on) {
  return launch("attention_simt", attention_simt<kSlices>,
                {Grid(uint32_t(batch) * uint32_t(p.tiles)), kSimtThreads,
                 uint32_t(4 * kQueries * kSlices * kSlice)},
                on.stream, p);
}

} // namespace

cudaError_t run_attention_simt(AttentionProblem &p, int32_t batch, const Launch &launch) {
  p.tiles = ceil_div(p.tokens, kQueries);
  if (p.head_dim <= kSlice) return launch_simt<1>(p, batch, launch);
  if (p.head_dim <= 3 * kSlice) return launch_simt<3>(p, batch, launch);
  if (p.head_dim <= 8 * kSlice) return launch_simt<8>(p, batch, launch);
  return kNotSupported;
}

} // namespace sluice::cuda
