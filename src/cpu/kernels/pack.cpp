/** @file Weights from the layout of a checkpoint to that of the kernels: PackForm in
 * lib/runtime/addon-types.ts. */
#include "cpu/kernels/support.hpp"

namespace sluice::SLUICE_ISA_NAMESPACE {
namespace {

/** A checkpoint's bytes may lie at any address. */
template <class T>
T read(const T *p) {
  T value;
  __builtin_memcpy(&value, p, sizeof value);
  return value;
}

template <class T>
void widen(float *to, const T *from, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; i += 16) {
    const int32_t lanes = (int32_t)least(end - i, (int64_t)16);
    T values[16] = {};
    __builtin_memcpy(values, from + i, lanes * sizeof(T));
    store_some(to + i, load(values), lanes);
  }
}

void widen_any(const PackSource &s, float *to, int64_t from, int64_t count) {
  switch (s.dtype) {
    case DType::f16:
      return widen(to, (const f16 *)s.data + from, 0, count);
    case DType::bf16:
      return widen(to, (const bf16 *)s.data + from, 0, count);
    default:
      return widen(to, (const float *)s.data + from, 0, count);
  }
}

/**
 * Panels [first, last) of [ceil(outputs / 16)][taps * inputs][16]. With pairs, panel 2i holds rows
 * 16i.. of the first half of the outputs and panel 2i + 1 the same rows of the second half.
 */
template <class T>
void pack_panels(const PackSource &s, bool pairs, int64_t first, int64_t last) {
  constexpr int64_t kPiece =
      32; // inputs at a time: 16 rows of them stay near while taps are picked out
  const int64_t half = s.outputs / 2, k_total = s.inputs * s.taps;
  for (int64_t panel = first; panel < last; ++panel) {
    const int64_t row0 = pairs ? panel / 2 * kPanel : panel * kPanel;
    const int64_t left = (pairs ? half : s.outputs) - row0;
    const int32_t rows = (int32_t)(left < kPanel ? left : kPanel);
    const T *from = (const T *)s.data + (row0 + (pairs && panel % 2 ? half : 0)) * k_total;
    T *to = (T *)s.destination + panel * k_total * kPanel;
    for (int64_t piece = 0; piece < s.inputs; piece += kPiece) {
      const int64_t end = least(piece + kPiece, s.inputs);
      for (int64_t tap = 0; tap < s.taps; ++tap) {
        for (int64_t input = piece; input < end; ++input) {
          T *k = to + (tap * s.inputs + input) * kPanel;
          const T *row = from + input * s.taps + tap;
          for (int32_t i = 0; i < rows; ++i) k[i] = read(row + i * k_total);
          for (int32_t i = rows; i < kPanel; ++i) k[i] = T{};
        }
      }
    }
  }
}

/** Three taps of an axis as the two stored pixels that they fall on, under an odd or an even
 * position. */
inline void join_taps(const f32x16 (&taps)[3], int even, f32x16 (&joined)[2]) {
  joined[0] = even ? taps[0] + taps[1] : taps[0];
  joined[1] = even ? taps[2] : taps[1] + taps[2];
}

/**
 * Panels [first, last) of [ceil(outputs / 16)][phase][row, column][inputs][16], float32: see
 * ConvCommand. Columns are summed before rows.
 */
template <class T>
void pack_phases(const PackSource &s, int64_t first, int64_t last) {
  const int64_t k_total = s.inputs * s.taps;
  for (int64_t panel = first; panel < last; ++panel) {
    const int32_t rows = (int32_t)least(s.outputs - panel * kPanel, (int64_t)kPanel);
    const T *from = (const T *)s.data + panel * kPanel * k_total;
    float *to = (float *)s.destination + panel * kPhases * kPhaseTaps * s.inputs * kPanel;
    for (int64_t input = 0; input < s.inputs; ++input) {
      T values[9][kPanel] = {};
      for (int32_t i = 0; i < rows; ++i) {
        for (int32_t tap = 0; tap < 9; ++tap)
          values[tap][i] = read(from + i * k_total + input * 9 + tap);
      }
      for (int32_t phase = 0; phase < kPhases; ++phase) {
        f32x16 columns[2][3]; // of the three rows
        for (int32_t y = 0; y < 3; ++y) {
          f32x16 taps[3], joined[2];
          for (int32_t x = 0; x < 3; ++x) taps[x] = load(values[3 * y + x]);
          join_taps(taps, phase & 1, joined);
          for (int32_t x = 0; x < 2; ++x) columns[x][y] = joined[x];
        }
        for (int32_t x = 0; x < 2; ++x) {
          f32x16 joined[2];
          join_taps(columns[x], phase >> 1, joined);
          for (int32_t y = 0; y < 2; ++y) {
            const int64_t k = (phase * kPhaseTaps + 2 * y + x) * s.inputs + input;
            store(to + k * kPanel, joined[y]);
          }
        }
      }
    }
  }
}

} // namespace

void pack(const PackSource &s, int32_t thread, int32_t threads) {
  const int64_t count = s.outputs * s.inputs * s.taps;
  switch (s.form) {
    case PackForm::raw: {
      const int64_t size = dtype_bytes(s.dtype);
      const Share share = share_of(ceil_div(count, (int64_t)4096), thread, threads);
      const int64_t begin = share.begin * 4096, end = least(share.end * 4096, count);
      if (begin < end) {
        __builtin_memcpy((char *)s.destination + begin * size, (const char *)s.data + begin * size,
                         (end - begin) * size);
      }
      return;
    }
    case PackForm::vector: {
      const Share share = share_of(ceil_div(count, (int64_t)4096), thread, threads);
      const int64_t begin = share.begin * 4096, end = least(share.end * 4096, count);
      if (begin < end) widen_any(s, (float *)s.destination + begin, begin, end - begin);
      return;
    }
    case PackForm::panel:
    case PackForm::panel_pairs: {
      const bool pairs = s.form == PackForm::panel_pairs;
      const int64_t panels = pairs ? 2 * ceil_div(s.outputs / 2, (int64_t)kPanel)
                                   : ceil_div(s.outputs, (int64_t)kPanel);
      const Share share = share_of(panels, thread, threads);
      if (dtype_bytes(s.dtype) == 2)
        pack_panels<uint16_t>(s, pairs, share.begin, share.end);
      else
        pack_panels<uint32_t>(s, pairs, share.begin, share.end);
      return;
    }
    case PackForm::vector_pairs: {
      const int64_t half = s.outputs / 2, panels = 2 * ceil_div(half, (int64_t)kPanel);
      const Share share = share_of(panels, thread, threads);
      for (int64_t panel = share.begin; panel < share.end; ++panel) {
        float *to = (float *)s.destination + panel * kPanel;
        const int64_t row = panel / 2 * kPanel, n = least(half - row, (int64_t)kPanel);
        store(to, zero());
        widen_any(s, to, row + (panel % 2 ? half : 0), n);
      }
      return;
    }
    case PackForm::panel_phases: {
      const Share share = share_of(ceil_div(s.outputs, (int64_t)kPanel), thread, threads);
      switch (s.dtype) {
        case DType::f16:
          return pack_phases<f16>(s, share.begin, share.end);
        case DType::bf16:
          return pack_phases<bf16>(s, share.begin, share.end);
        default:
          return pack_phases<float>(s, share.begin, share.end);
      }
    }
    default:
      return;
  }
}

} // namespace sluice::SLUICE_ISA_NAMESPACE
