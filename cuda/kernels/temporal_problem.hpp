/**
 * @file
 * Attention along the frames as its kernels see it: pixels and heads are the batch, and a pixel's
 * frames lie a whole feature apart, so that nothing is moved.
 */
#pragma once

#include "kernels/pieces.hpp"
#include "kernels/reduce.hpp"

namespace sluice::cuda {

/** Frames of keys that the kernels on tensor cores hold at once. */
constexpr int32_t kMostTensorFrames = 32;

struct TimeProblem {
  int32_t frames, rows, cols, heads, head_dim, key_frames, causal, query0;
  float scale;
  Operand q, k, v, out;
};

inline TimeProblem time_problem(const AttentionCommand &c, const Launch &launch) {
  return {c.frames,
          c.rows,
          c.cols,
          c.heads,
          c.head_dim,
          c.key_frames,
          c.causal,
          c.query0,
          c.scale,
          operand(c.q, launch),
          operand(c.k, launch),
          operand(c.v, launch),
          operand(c.out, launch)};
}

// Compiled apart, as each takes its time.
cudaError_t run_time_f16(const TimeProblem &, const Launch &);
cudaError_t run_time_bf16(const TimeProblem &, const Launch &);
cudaError_t run_time_simt(const TimeProblem &, const Launch &);

} // namespace sluice::cuda
