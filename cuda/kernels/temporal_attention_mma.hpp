/**
 * @file
 * Attention along the frames on tensor cores: one warp takes one pixel and one head, neighbouring
 * warps the next heads of the pixel, whose channels lie side by side. All keys and values of the
 * pixel are in the warp's own part of shared memory at once, the queries sixteen at a time; scores,
 * weights and sums are in registers, and the softmax takes one pass. No warp waits for another.
 */
#pragma once

#include "kernels/temporal_problem.hpp"

namespace sluice::cuda {

/** kWidth: channels of a head, filled up with zeros to a multiple of 16; kKeys: frames likewise. */
template <class T_, int kWidth_, int kKeys_>
struct TimeTile {
  using T = T_;
  static constexpr int kWidth = kWidth_, kKeys = kKeys_;
  static constexpr int kQueries = 16;
  /** An odd number of 16-byte chunks apart, the rows of a matrix lie in different banks. */
  static constexpr int kStride = kWidth + 8;
  static constexpr int kChunks = kWidth / 8; ///< of a frame
  static constexpr int kWarpElements = (kQueries + 2 * kKeys) * kStride;
  static constexpr int kWarpBytes = 2 * kWarpElements;
  static constexpr int kMostBytes = 64 * 1024; ///< of a block, on any architecture
  static constexpr int kWarps = kMostBytes / kWarpBytes < 8 ? kMostBytes / kWarpBytes : 8;
  static constexpr int kThreads = 32 * kWarps;
  static constexpr int kSharedBytes = kWarps * kWarpBytes;
  /** Columns of the output's sums that one product takes, eight each. */
  static constexpr int kGroup = kWidth <= 80 ? kWidth / 8 : 4;
  static constexpr int kGroups = kWidth / 8 / kGroup;
  static_assert(kWarps > 0 && kGroup % 2 == 0 && kWidth % (8 * kGroup) == 0, "groups are pairs");
};

/** Brings frames [first, first + kCount) of a pixel's head to [kCount][kStride], zeros beyond. */
template <class Tile, int kCount>
SLUICE_DEVICE void fetch_frames(const Operand &from, int64_t pixel, int32_t head_dim, bool direct,
                                int32_t first, int32_t end, Shared<typename Tile::T> to) {
  using T = typename Tile::T;
  const int32_t lane = int32_t(threadIdx.x) % kWarp;
  for (int32_t i = lane; i < kCount * Tile::kChunks; i += kWarp) {
    const int32_t row = i / Tile::kChunks, column = i % Tile::kChunks * 8;
    const bool inside = first + row < end && column < head_dim;
    const int64_t at = inside ? pixel + int64_t(first + row) * from.stride_f + column : 0;
    const int32_t place = row * Tile::kStride + column;
    if (direct) {
      ptx::copy_16(to, place, Global<const T>{static_cast<const T *>(from.data)}, at, inside);
    } else {
      uint32_t words[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int32_t c = column + 2 * j;
        words[j] = ptx::pack2<T>(inside && c < head_dim ? from.load(at + 2 * j) : 0.0f,
                                 inside && c + 1 < head_dim ? from.load(at + 2 * j + 1) : 0.0f);
      }
      to.template store_as<Words4>(place, {words[0], words[1], words[2], words[3]});
    }
  }
}

/**
 * direct: queries, keys and values are copied as they are stored. wide: the output is of type T and
 * takes eight channels at once.
 */
template <class Tile>
SLUICE_KERNEL(Tile::kThreads, 1)
time_mma(const TimeProblem p, bool direct, bool wide) {
  using T = typename Tile::T;
  constexpr int kKeys = Tile::kKeys, kWidth = Tile::kWidth, kStride = Tile::kStride;
  constexpr int kGroup = Tile::kGroup;
  const int32_t warp = int32_t(threadIdx.x) / kWarp, lane = int32_t(threadIdx.x) % kWarp;
  const int64_t item = int64_t(blockIdx.x) * Tile::kWarps + warp;
  if (item >= int64_t(p.rows) * p.cols * p.heads) return; // the whole warp
  const int32_t pixel = int32_t(item / p.heads);
  const int32_t row = pixel / p.cols, col = pixel - row * p.cols;
  const int32_t channel = int32_t(item - int64_t(pixel) * p.heads) * p.head_dim;

  const Shared<T> queries = dynamic_shared<T>(warp * Tile::kWarpBytes, Tile::kWarpElements);
  const Shared<T> keys = queries + Tile::kQueries * kStride, values = keys + kKeys * kStride;
  fetch_frames<Tile, kKeys>(p.k, p.k.at(0, row, col) + channel, p.head_dim, direct, 0, p.key_frames,
                            keys);
  const float exponent = p.scale * 1.44269504088896341f; // scores as powers of two
  for (int32_t first = 0; first < p.frames; first += Tile::kQueries) {
    fetch_frames<Tile, Tile::kQueries>(p.q, p.q.at(0, row, col) + channel, p.head_dim, direct,
                                       first, p.frames, queries);
    ptx::copy_commit();
    if (first == 0) {
      fetch_frames<Tile, kKeys>(p.v, p.v.at(0, row, col) + channel, p.head_dim, direct, 0,
                                p.key_frames, values);
    }
    ptx::copy_commit();
    ptx::copy_wait<1>();
    warp_sync();

    float scores[1][kKeys / 8][4] = {};
#pragma unroll
    for (int i = 0; i < kWidth / 16; ++i) {
      uint32_t a[1][4], b[kKeys / 8][2];
      ptx::load_matrices(a[0], queries, lane % 16 * kStride + 16 * i + lane / 16 * 8);
#pragma unroll
      for (int j = 0; j < kKeys / 8; j += 2) {
        uint32_t both[4];
        const int32_t key = 8 * j + lane / 16 * 8 + lane % 8;
        ptx::load_matrices(both, keys, key * kStride + 16 * i + lane / 8 % 2 * 8);
        b[j][0] = both[0], b[j][1] = both[1], b[j + 1][0] = both[2], b[j + 1][1] = both[3];
      }
      ptx::mma_tile<T>(scores, a, b);
    }

    // Rows lane / 4 and eight below: the weights of keys that a query does not see are 0.
    float inverse[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int64_t query = int64_t(p.query0) + first + lane / 4 + 8 * r;
      float most = -INFINITY;
#pragma unroll
      for (int j = 0; j < kKeys / 8; ++j) {
#pragma unroll
        for (int e = 2 * r; e < 2 * r + 2; ++e) {
          const int32_t key = 8 * j + lane % 4 * 2 + e % 2;
          if (key >= p.key_frames || (p.causal && key > query)) scores[0][j][e] = -INFINITY;
          most = fmaxf(most, scores[0][j][e]);
        }
      }
      most = fmaxf(most, shuffle_xor(most, 1));
      most = fmaxf(most, shuffle_xor(most, 2));
      float total = 0.0f;
#pragma unroll
      for (int j = 0; j < kKeys / 8; ++j) {
#pragma unroll
        for (int e = 2 * r; e < 2 * r + 2; ++e) {
          scores[0][j][e] = ptx::exp2_fast((scores[0][j][e] - most) * exponent);
          total += scores[0][j][e];
        }
      }
      total += shuffle_xor(total, 1);
      total += shuffle_xor(total, 2);
      inverse[r] = 1.0f / total;
    }

    ptx::copy_wait<0>();
    warp_sync(); // the values are here, and the queries' place is free
    const int32_t channels_left = p.head_dim - lane % 4 * 2;
#pragma unroll
    for (int g = 0; g < Tile::kGroups; ++g) {
      float out[1][kGroup][4] = {};
#pragma unroll
      for (int i = 0; i < kKeys / 16; ++i) {
        const float(&low)[4] = scores[0][2 * i], (&high)[4] = scores[0][2 * i + 1];
        const uint32_t a[1][4] = {{ptx::pack2<T>(low[0], low[1]), ptx::pack2<T>(low[2], low[3]),
                                   ptx::pack2<T>(high[0], high[1]),
                                   ptx::pack2<T>(high[2], high[3])}};
        uint32_t b[kGroup][2];
#pragma unroll
        for (int j = 0; j < kGroup; j += 2) {
          uint32_t both[4];
          const int32_t key = 16 * i + lane % 16;
          ptx::load_matrices_transposed(both, values,
                                        key * kStride + 8 * (g * kGroup + j) + lane / 16 * 8);
          b[j][0] = both[0], b[j][1] = both[1], b[j + 1][0] = both[2], b[j + 1][1] = both[3];
        }
        ptx::mma_tile<T>(out, a, b);
      }
#pragma unroll
      for (int j = 0; j < kGroup; ++j) {
        const int32_t column = 8 * (g * kGroup + j);
#pragma unroll
        for (int r = 0; r < 2; ++r) {
          // Hidden keys may turn the sign of a zero: + 0 makes both the same.
          const float x = out[0][j][2 * r] * inverse[r] + 0.0f;
          const float y = out[0][j][2 * r + 1] * inverse[r] + 0.0f;
          const int32_t query = lane / 4 + 8 * r;
          if (wide) {
            queries.template store_as<uint32_t>(query * kStride + column + lane % 4 * 2,
                                                ptx::pack2<T>(x, y));
          } else if (first + query < p.frames) {
            const int64_t at = p.out.at(first + query, row, col) + channel + column + lane % 4 * 2;
            if (column < channels_left) p.out.store(at, x);
            if (column + 1 < channels_left) p.out.store(at + 1, y);
          }
        }
      }
    }
    warp_sync();
    if (wide) {
      for (int32_t i = lane; i < Tile::kQueries * Tile::kChunks; i += kWarp) {
        const int32_t query = i / Tile::kChunks, column = i % Tile::kChunks * 8;
        if (first + query >= p.frames || column >= p.head_dim) continue;
        p.out.as<T>().template store_as<Words4>(
            p.out.at(first + query, row, col) + channel + column,
            queries.template load_as<Words4>(query * kStride + column));
      }
      warp_sync(); // before the next queries arrive
    }
  }
}

template <class Tile>
cudaError_t launch_time(const TimeProblem &p, bool direct, bool wide, const Launch &on) {
  const int64_t items = int64_t(p.rows) * p.cols * p.heads;
  const int64_t blocks = (items + Tile::kWarps - 1) / Tile::kWarps;
  if (blocks > INT32_MAX) return kNotSupported;
  return launch("time_attention", time_mma<Tile>,
                {uint32_t(blocks), Tile::kThreads, Tile::kSharedBytes}, on.stream, p, direct, wide);
}

/** Width and keys follow the operation alone. */
template <class T>
cudaError_t choose_time(const TimeProblem &p, const Launch &on) {
  const DType dtype = std::is_same_v<T, f16> ? DType::f16 : DType::bf16;
  const auto ready = [&](const Operand &o) {
    return p.head_dim % 8 == 0 && o.dtype == dtype && is_vector(o);
  };
  const bool direct = ready(p.q) && ready(p.k) && ready(p.v), wide = ready(p.out);
  const auto pick = [&](auto keys) {
    constexpr int kKeys = decltype(keys)::value;
    if (p.head_dim <= 32) return launch_time<TimeTile<T, 32, kKeys>>(p, direct, wide, on);
    if (p.head_dim <= 48) return launch_time<TimeTile<T, 48, kKeys>>(p, direct, wide, on);
    if (p.head_dim <= 64) return launch_time<TimeTile<T, 64, kKeys>>(p, direct, wide, on);
    if (p.head_dim <= 80) return launch_time<TimeTile<T, 80, kKeys>>(p, direct, wide, on);
    if (p.head_dim <= 128) return launch_time<TimeTile<T, 128, kKeys>>(p, direct, wide, on);
    return launch_time<TimeTile<T, 160, kKeys>>(p, direct, wide, on);
  };
  return p.key_frames <= 16 ? pick(std::integral_constant<int, 16>{})
                            : pick(std::integral_constant<int, kMostTensorFrames>{});
}

} // namespace sluice::cuda
