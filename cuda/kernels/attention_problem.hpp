/**
 * @file
 * Attention within a frame as its kernels see it: frames and heads are the batch, the pixels of a
 * frame its tokens. Key blocks begin at fixed places, so that a query's result does not depend on
 * the queries beside it.
 */
#pragma once

#include "kernels/pieces.hpp"
#include "kernels/reduce.hpp"

namespace sluice::cuda {

/** Where tokens of one operand lie. */
struct TokenView {
  Operand data;
  int32_t cols; ///< tokens of a line; 0: all are stride_w apart

  /** Channel 0 of head 0. */
  SLUICE_DEVICE int64_t at(int32_t frame, int32_t token) const {
    const int64_t base = int64_t(frame) * data.stride_f;
    if (cols == 0) return base + int64_t(token) * data.stride_w;
    const int32_t line = token / cols;
    return base + int64_t(line) * data.stride_h + int64_t(token - line * cols) * data.stride_w;
  }
};

struct AttentionProblem {
  int32_t tokens, key_tokens, heads, head_dim;
  int32_t causal, query0;
  int32_t tiles; ///< of queries, in one frame and head
  float scale;
  TokenView q, k, v, out;
  bool wide; ///< eight channels of the output can be written at once
};

inline TokenView token_view(const View &view, int32_t rows, int32_t cols, const Launch &launch) {
  const bool even = rows == 1 || view.stride_h == int64_t(cols) * view.stride_w;
  return {operand(view, launch), even ? 0 : cols};
}

inline AttentionProblem attention_problem(const AttentionCommand &c, const Launch &launch) {
  AttentionProblem p = {};
  p.tokens = c.rows * c.cols, p.key_tokens = c.key_rows * c.key_cols;
  p.heads = c.heads, p.head_dim = c.head_dim;
  p.causal = c.causal, p.query0 = c.query0;
  p.scale = c.scale;
  p.q = token_view(c.q, c.rows, c.cols, launch);
  p.k = token_view(c.k, c.key_rows, c.key_cols, launch);
  p.v = token_view(c.v, c.key_rows, c.key_cols, launch);
  p.out = token_view(c.out, c.rows, c.cols, launch);
  p.wide = is_wide(p.out.data, c.head_dim);
  return p;
}

/** A thread block's part: a tile of queries of one head of one frame. */
struct AttentionPart {
  int32_t frame, head, first_query;
  int32_t channel; ///< of the head
  int32_t keys;    ///< that the tile's last query sees
};

SLUICE_DEVICE AttentionPart attention_part(const AttentionProblem &p, int32_t queries) {
  AttentionPart part;
  const int32_t index = int32_t(blockIdx.x), batch = index / p.tiles;
  part.first_query = (index - batch * p.tiles) * queries;
  part.frame = batch / p.heads;
  part.head = batch - part.frame * p.heads;
  part.channel = part.head * p.head_dim;
  const int64_t seen = int64_t(p.query0) + part.first_query + queries;
  part.keys = p.causal && seen < p.key_tokens ? int32_t(seen) : p.key_tokens;
  return part;
}

// Compiled apart, as each takes its time. `batch`: frames times heads.
cudaError_t run_attention_f16(AttentionProblem &, int32_t batch, const Launch &);
cudaError_t run_attention_bf16(AttentionProblem &, int32_t batch, const Launch &);
cudaError_t run_attention_simt(AttentionProblem &, int32_t batch, const Launch &);

} // namespace sluice::cuda
