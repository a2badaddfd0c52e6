/**
 * @file
 * The register tile of register_tile.hpp in bfloat16, two k at a time: AVX512_BF16's VDPBF16PS adds
 * the products of an odd and an even k to a float32 sum, whose rounding is to nearest even with
 * subnormals taken as zero (Intel's manual, volume 2). K is even; whether a processor has it,
 * dispatch.cpp says.
 */
#pragma once

#include "cpu/kernels/register_tile.hpp"

namespace sluice::SLUICE_ISA_NAMESPACE {

#if defined(__AVX512F__)

#define SLUICE_BF16 __attribute__((target("avx512bf16")))

/** `count` rows of some panels, panel_stride apart, as [panel][room / 2][16 columns][2 k], zeros
 * behind the last. */
template <class W>
SLUICE_BF16 void pair_rows(const W *rows, int64_t panel_stride, int32_t panels, int64_t count,
                           int64_t room, bf16 *to) {
  alignas(64) static constexpr uint16_t kOrder[32] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,
                                                      21, 6,  22, 7,  23, 8,  24, 9,  25, 10, 26,
                                                      11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  const __m512i order = _mm512_load_si512(kOrder);
  for (int32_t p = 0; p < panels; ++p, rows += panel_stride) {
    const W *row = rows;
    for (int64_t k = 0; k < count; k += 2, row += 2 * kPanel, to += 2 * kPanel) {
      const __m512i two = (__m512i)_mm512_cvtne2ps_pbh(load(row + kPanel).v, load(row).v);
      _mm512_store_si512(to, _mm512_permutexvar_epi16(order, two));
    }
    for (int64_t k = count; k < room; k += 2, to += 2 * kPanel)
      _mm512_store_si512(to, _mm512_setzero_si512());
  }
}

template <int MR, int NV>
SLUICE_BF16 void pair_kernel(const TileJob &job, const Walk &walk, const void *first_panel,
                             int64_t panel_stride, int64_t column) {
  __m512 acc[MR][NV];
  const bf16 *rows[MR];
#pragma GCC unroll 8
  for (int i = 0; i < MR; ++i) {
    rows[i] = (const bf16 *)job.rows + job.row_at[i];
    const float *from = job.from + job.from_at[i] + column;
#pragma GCC unroll 3
    for (int j = 0; j < NV; ++j)
      acc[i][j] = job.from_zero ? _mm512_setzero_ps() : _mm512_loadu_ps(from + 16 * j);
  }
  const bf16 *panels = (const bf16 *)first_panel;
  int64_t line = walk.line, run = walk.run, first = walk.first, left = walk.count;
  int64_t last = first + least(walk.length - walk.position, left);
  while (true) {
#pragma GCC unroll 2
    for (int64_t k = first; k < last; k += 2) {
      __m512bh w[NV];
#pragma GCC unroll 3
      for (int j = 0; j < NV; ++j) w[j] = (__m512bh)_mm512_loadu_si512(panels + j * panel_stride);
#pragma GCC unroll 8
      for (int i = 0; i < MR; ++i) {
        int32_t two;
        __builtin_memcpy(&two, rows[i] + k, sizeof two);
        const __m512bh a = (__m512bh)_mm512_set1_epi32(two);
#pragma GCC unroll 3
        for (int j = 0; j < NV; ++j) acc[i][j] = _mm512_dpbf16_ps(acc[i][j], a, w[j]);
      }
      panels += 2 * kPanel;
    }
    left -= last - first;
    if (left <= 0) break;
    if (++run == walk.runs_per_line) run = 0, ++line;
    first = line * walk.line_stride + run * walk.run_stride;
    last = first + least(walk.length, left);
  }
#pragma GCC unroll 8
  for (int i = 0; i < MR; ++i) {
    float *to = job.to + job.to_at[i] + column;
#pragma GCC unroll 3
    for (int j = 0; j < NV; ++j) _mm512_storeu_ps(to + 16 * j, acc[i][j]);
  }
}

/** As tile_kernel_for, of rows of bf16; panels as pair_rows leaves them. */
inline TileKernel pair_kernel_for(int32_t rows, int32_t panels) {
  static constexpr TileKernel kKernels[kTileRows][kTilePanels] = {
#define SLUICE_PAIRS(mr) {pair_kernel<mr, 1>, pair_kernel<mr, 2>, pair_kernel<mr, 3>}
      SLUICE_PAIRS(1), SLUICE_PAIRS(2), SLUICE_PAIRS(3), SLUICE_PAIRS(4),
      SLUICE_PAIRS(5), SLUICE_PAIRS(6), SLUICE_PAIRS(7), SLUICE_PAIRS(8),
#undef SLUICE_PAIRS
  };
  return kKernels[rows - 1][panels - 1];
}

#undef SLUICE_BF16

#else // declared alone: nothing calls them where not kPairs

template <class W>
void pair_rows(const W *rows, int64_t panel_stride, int32_t panels, int64_t count, int64_t room,
               bf16 *to);
TileKernel pair_kernel_for(int32_t rows, int32_t panels);

#endif

} // namespace sluice::SLUICE_ISA_NAMESPACE
