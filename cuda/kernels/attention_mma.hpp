/**
 * @file
 * Attention on tensor cores, after FlashAttention-2: a warp keeps sixteen queries in registers;
 * keys and values pass block by block through two stages of shared memory; the softmax is online,
 * and its weights go from the sums of one product straight into the operand of the next.
 */
#pragma once

#include "kernels/attention_problem.hpp"

namespace sluice::cuda {

/** kWidth: channels of a head, filled up with zeros to a multiple of 16. kDirect: copied as stored.
 */
template <class T_, int kWidth_, bool kDirect_>
struct AttentionTile {
  using T = T_;
  static constexpr int kWidth = kWidth_;
  static constexpr bool kDirect = kDirect_;
  static constexpr int kWarps = 4, kThreads = 32 * kWarps;
  static constexpr int kQueries = 16 * kWarps;
  static constexpr int kKeys = kWidth <= 80 ? 64 : 32;
  /** An odd number of 16-byte chunks apart, the rows of a matrix lie in different banks. */
  static constexpr int kStride = kWidth + 8;
  static constexpr int kChunks = kWidth / 8; ///< of a token
  static constexpr int kStageElements = 2 * kKeys * kStride;
  static constexpr int kSharedBytes = 2 * kStageElements * 2;
  static constexpr int kStagingStride = kWidth + 8;
  static_assert(kStageElements >= kQueries * kStride, "queries pass through the second stage");
  static_assert(kSharedBytes >= kWarps * 16 * kStagingStride * 4, "outputs pass through the ring");
  /** Columns of the output's sums that one product takes, eight each. */
  static constexpr int kGroup = kWidth <= 80 ? kWidth / 8 : 4;
  static constexpr int kGroups = kWidth / 8 / kGroup;
  static_assert(kGroup % 2 == 0 && kWidth % (8 * kGroup) == 0, "groups are pairs of columns");
};

/** Brings tokens [first, first + kCount) of a head to [kCount][kStride], zeros beyond `end`. */
template <class Tile, int kCount>
SLUICE_DEVICE void fetch_tokens(const AttentionProblem &p, const TokenView &from,
                                const AttentionPart &part, int32_t first, int32_t end,
                                Shared<typename Tile::T> to) {
  using T = typename Tile::T;
  for (int32_t i = int32_t(threadIdx.x); i < kCount * Tile::kChunks; i += Tile::kThreads) {
    const int32_t row = i / Tile::kChunks, column = i % Tile::kChunks * 8;
    const int32_t token = first + row;
    const bool inside = token < end && column < p.head_dim;
    const int64_t at = inside ? from.at(part.frame, token) + part.channel + column : 0;
    const int32_t place = row * Tile::kStride + column;
    if constexpr (Tile::kDirect) {
      ptx::copy_16(to, place, Global<const T>{static_cast<const T *>(from.data.data)}, at, inside);
    } else {
      uint32_t words[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int32_t c = column + 2 * j;
        words[j] =
            ptx::pack2<T>(inside && c < p.head_dim ? from.data.load(at + 2 * j) : 0.0f,
                          inside && c + 1 < p.head_dim ? from.data.load(at + 2 * j + 1) : 0.0f);
      }
      to.template store_as<Words4>(place, {words[0], words[1], words[2], words[3]});
    }
  }
}

template <class Tile>
SLUICE_KERNEL(Tile::kThreads, 1)
attention_mma(const AttentionProblem p) {
  using T = typename Tile::T;
  constexpr int kKeys = Tile::kKeys, kWidth = Tile::kWidth, kStride = Tile::kStride;
  constexpr int kGroup = Tile::kGroup;
  const AttentionPart part = attention_part(p, Tile::kQueries);
  const int32_t warp = int32_t(threadIdx.x) / 32, lane = int32_t(threadIdx.x) % 32;
  const Shared<T> ring = dynamic_shared<T>(0, 2 * Tile::kStageElements);
  const auto fetch = [&](int32_t block) {
    const Shared<T> stage = ring + block % 2 * Tile::kStageElements;
    const int32_t first = block * kKeys;
    fetch_tokens<Tile, kKeys>(p, p.k, part, first, p.key_tokens, stage);
    fetch_tokens<Tile, kKeys>(p, p.v, part, first, p.key_tokens, stage + kKeys * kStride);
  };

  const Shared<T> queries = ring + Tile::kStageElements;
  fetch_tokens<Tile, Tile::kQueries>(p, p.q, part, part.first_query, p.tokens, queries);
  ptx::copy_commit();
  fetch(0);
  ptx::copy_commit();
  ptx::copy_wait<1>();
  block_sync();
  uint32_t q[kWidth / 16][1][4];
#pragma unroll
  for (int i = 0; i < kWidth / 16; ++i) {
    const int32_t row = 16 * warp + lane % 16;
    ptx::load_matrices(q[i][0], queries, row * kStride + 16 * i + lane / 16 * 8);
  }
  block_sync(); // the second stage is free

  // Rows g and g + 8 of the warp's queries: largest score so far, sum of weights, sums of values.
  float peak[2] = {-INFINITY, -INFINITY}, weight[2] = {};
  float out[Tile::kGroups][1][kGroup][4] = {};
  const int32_t first_row = part.first_query + 16 * warp + lane / 4;
  const float exponent = p.scale * 1.44269504088896341f; // scores as powers of two
  const int32_t blocks = ceil_div(part.keys, kKeys);
  for (int32_t block = 0; block < blocks; ++block) {
    if (block + 1 < blocks) fetch(block + 1);
    ptx::copy_commit();
    ptx::copy_wait<1>();
    block_sync();
    const Shared<T> keys = ring + block % 2 * Tile::kStageElements;
    const Shared<T> values = keys + kKeys * kStride;

    float scores[1][kKeys / 8][4] = {};
#pragma unroll
    for (int i = 0; i < kWidth / 16; ++i) {
      uint32_t b[kKeys / 8][2];
#pragma unroll
      for (int j = 0; j < kKeys / 8; j += 2) {
        uint32_t both[4];
        const int32_t key = 8 * j + lane / 16 * 8 + lane % 8;
        ptx::load_matrices(both, keys, key * kStride + 16 * i + lane / 8 % 2 * 8);
        b[j][0] = both[0], b[j][1] = both[1], b[j + 1][0] = both[2], b[j + 1][1] = both[3];
      }
      ptx::mma_tile<T>(scores, q[i], b);
    }

    // Keys that a query does not see have no weight.
    const int32_t first_key = block * kKeys;
    if (first_key + kKeys > p.key_tokens || p.causal) {
#pragma unroll
      for (int j = 0; j < kKeys / 8; ++j) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const int32_t key = first_key + 8 * j + lane % 4 * 2 + e % 2;
          const int64_t query = int64_t(p.query0) + first_row + e / 2 * 8;
          if (key >= p.key_tokens || (p.causal && key > query)) scores[0][j][e] = -INFINITY;
        }
      }
    }
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float most = peak[r];
#pragma unroll
      for (int j = 0; j < kKeys / 8; ++j)
        most = fmaxf(most, fmaxf(scores[0][j][2 * r], scores[0][j][2 * r + 1]));
      most = fmaxf(most, shuffle_xor(most, 1));
      most = fmaxf(most, shuffle_xor(most, 2));
      const float fade = ptx::exp2_fast((peak[r] - most) * exponent);
      peak[r] = most;
      float total = 0.0f;
#pragma unroll
      for (int j = 0; j < kKeys / 8; ++j) {
#pragma unroll
        for (int e = 2 * r; e < 2 * r + 2; ++e) {
          scores[0][j][e] = ptx::exp2_fast((scores[0][j][e] - most) * exponent);
          total += scores[0][j][e];
        }
      }
      // Each lane sums its own keys; the four of a row are joined at the end.
      weight[r] = weight[r] * fade + total;
#pragma unroll
      for (int g = 0; g < Tile::kGroups; ++g)
#pragma unroll
        for (int j = 0; j < kGroup; ++j)
          out[g][0][j][2 * r] *= fade, out[g][0][j][2 * r + 1] *= fade;
    }

#pragma unroll
    for (int i = 0; i < kKeys / 16; ++i) {
      const float(&low)[4] = scores[0][2 * i], (&high)[4] = scores[0][2 * i + 1];
      const uint32_t a[1][4] = {{ptx::pack2<T>(low[0], low[1]), ptx::pack2<T>(low[2], low[3]),
                                 ptx::pack2<T>(high[0], high[1]), ptx::pack2<T>(high[2], high[3])}};
#pragma unroll
      for (int g = 0; g < Tile::kGroups; ++g) {
        uint32_t b[kGroup][2];
#pragma unroll
        for (int j = 0; j < kGroup; j += 2) {
          uint32_t both[4];
          const int32_t key = 16 * i + lane % 16;
          ptx::load_matrices_transposed(both, values,
                                        key * kStride + 8 * (g * kGroup + j) + lane / 16 * 8);
          b[j][0] = both[0], b[j][1] = both[1], b[j + 1][0] = both[2], b[j + 1][1] = both[3];
        }
        ptx::mma_tile<T>(out[g], a, b);
      }
    }
    block_sync(); // this stage may be filled again
  }

  float inverse[2];
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    weight[r] += shuffle_xor(weight[r], 1);
    weight[r] += shuffle_xor(weight[r], 2);
    inverse[r] = 1.0f / weight[r];
  }
  const Shared<float> staging =
      dynamic_shared<float>(warp * 16 * Tile::kStagingStride * 4, 16 * Tile::kStagingStride);
#pragma unroll
  for (int g = 0; g < Tile::kGroups; ++g) {
#pragma unroll
    for (int j = 0; j < kGroup; ++j) {
      const float(&o)[4] = out[g][0][j];
      const int32_t at = lane / 4 * Tile::kStagingStride + 8 * (g * kGroup + j) + lane % 4 * 2;
      // Hidden keys may turn the sign of a zero: + 0 makes both the same.
      staging.store_as<Floats2>(at, {o[0] * inverse[0] + 0.0f, o[1] * inverse[0] + 0.0f});
      staging.store_as<Floats2>(at + 8 * Tile::kStagingStride,
                                {o[2] * inverse[1] + 0.0f, o[3] * inverse[1] + 0.0f});
    }
  }
  warp_sync();
  for (int32_t i = lane; i < 16 * Tile::kChunks; i += 32) {
    const int32_t row = i / Tile::kChunks, column = i % Tile::kChunks * 8;
    const int32_t token = part.first_query + 16 * warp + row;
    if (token >= p.tokens || column >= p.head_dim) continue;
    const int64_t at = p.out.at(part.frame, token) + part.channel + column;
    const int32_t from = row * Tile::kStagingStride + column;
    if (p.wide) {
      const Floats4 a = staging.load_as<Floats4>(from), b = staging.load_as<Floats4>(from + 4);
      p.out.data.store8(at, {a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w});
      continue;
    }
    for (int32_t j = 0; j < 8 && column + j < p.head_dim; ++j)
      p.out.data.store(at + j, staging.load(from + j));
  }
}

template <class Tile>
cudaError_t launch_attention(AttentionProblem &p, int32_t batch, const Launch &on) {
  p.tiles = ceil_div(p.tokens, Tile::kQueries);
  return launch("attention", attention_mma<Tile>,
                {Grid(uint32_t(batch) * uint32_t(p.tiles)), Tile::kThreads, Tile::kSharedBytes},
                on.stream, p);
}

/** The width follows the operation alone: with it go the places where key blocks begin. */
template <class T>
cudaError_t choose_attention(AttentionProblem &p, int32_t batch, const Launch &on) {
  const DType dtype = std::is_same_v<T, f16> ? DType::f16 : DType::bf16;
  bool direct = p.head_dim % 8 == 0;
  for (const TokenView *view : {&p.q, &p.k, &p.v})
    direct &= view->data.dtype == dtype && is_vector(view->data);
  const auto pick = [&](auto direct_tag) {
    constexpr bool kDirect = decltype(direct_tag)::value;
    if (p.head_dim <= 32) return launch_attention<AttentionTile<T, 32, kDirect>>(p, batch, on);
    if (p.head_dim <= 48) return launch_attention<AttentionTile<T, 48, kDirect>>(p, batch, on);
    if (p.head_dim <= 64) return launch_attention<AttentionTile<T, 64, kDirect>>(p, batch, on);
    if (p.head_dim <= 80) return launch_attention<AttentionTile<T, 80, kDirect>>(p, batch, on);
    if (p.head_dim <= 128) return launch_attention<AttentionTile<T, 128, kDirect>>(p, batch, on);
    return launch_attention<AttentionTile<T, 160, kDirect>>(p, batch, on);
  };
  return direct ? pick(std::true_type{}) : pick(std::false_type{});
}

} // namespace sluice::cuda
