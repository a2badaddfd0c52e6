/** @file f32x16 as one 512-bit register. Included by simd.hpp inside the namespace of the
 * instruction set. */

struct f32x16 {
  __m512 v;
};

constexpr int32_t kTileRows =
    8; // rows x panels of the register tile: 24 accumulators of 32 registers
constexpr int32_t kTilePanels = 3;
constexpr int32_t kPieceRows =
    160;                      // of a panel's K that stay in the first cache while pixels go by
constexpr bool kPairs = true; // whether there may be products of bfloat16 (pair_tile.hpp)
constexpr bool kWidenFirst = false; // whether widening 16-bit weights costs more than a load
constexpr int32_t kNormPixels = 2;  // added up in registers at a time
constexpr const char *kIsaName = "avx512";

inline __mmask16 lane_mask(int32_t lanes) { return (__mmask16)((1u << lanes) - 1u); }

inline f32x16 splat(float x) { return {_mm512_set1_ps(x)}; }
inline f32x16 load(const float *p) { return {_mm512_loadu_ps(p)}; }
inline f32x16 load(const f16 *p) {
  return {_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p))};
}
inline f32x16 load(const bf16 *p) {
  const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));
  return {_mm512_castsi512_ps(_mm512_slli_epi32(wide, 16))};
}
inline void store(float *p, f32x16 a) { _mm512_storeu_ps(p, a.v); }
/** Past the caches; p a multiple of 64 bytes. Ends with write_fence(). */
inline void store_past_caches(float *p, f32x16 a) { _mm512_stream_ps(p, a.v); }
inline void write_fence() { _mm_sfence(); }

inline f32x16 load_lanes(const float *p, int32_t lanes) {
  return {_mm512_maskz_loadu_ps(lane_mask(lanes), p)};
}
inline void store_lanes(float *p, f32x16 a, int32_t lanes) {
  _mm512_mask_storeu_ps(p, lane_mask(lanes), a.v);
}

inline f32x16 operator+(f32x16 a, f32x16 b) { return {_mm512_add_ps(a.v, b.v)}; }
inline f32x16 operator-(f32x16 a, f32x16 b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline f32x16 operator*(f32x16 a, f32x16 b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline f32x16 operator/(f32x16 a, f32x16 b) { return {_mm512_div_ps(a.v, b.v)}; }
/** 1 / a for a >= 1, within 2 units in the last place; 0 from 2^126 on. */
inline f32x16 reciprocal(f32x16 a) {
  const __m512 y = _mm512_rcp14_ps(a.v); // relative error 2^-14, squared by one step of Newton's
  return {_mm512_fmadd_ps(y, _mm512_fnmadd_ps(a.v, y, _mm512_set1_ps(1.0f)), y)};
}
inline f32x16 fma(f32x16 a, f32x16 b, f32x16 c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
inline f32x16 fnma(f32x16 a, f32x16 b, f32x16 c) { return {_mm512_fnmadd_ps(a.v, b.v, c.v)}; }
// Where an operand is not a number, min and max return b.
inline f32x16 min(f32x16 a, f32x16 b) { return {_mm512_min_ps(a.v, b.v)}; }
inline f32x16 max(f32x16 a, f32x16 b) { return {_mm512_max_ps(a.v, b.v)}; }
inline f32x16 round(f32x16 a) { return {_mm512_roundscale_ps(a.v, 8)}; }
/** a < b ? x : y */
inline f32x16 select_less(f32x16 a, f32x16 b, f32x16 x, f32x16 y) {
  return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ), y.v, x.v)};
}
constexpr int32_t kRoots = 32; // see power_of_two
constexpr float kRootTerms[] = {0.240226492f, 0.693157315f, 1.0f};
alignas(64) constexpr uint32_t kRootBits[kRoots] = {
    0x00000000, 0xfffecd87, 0xfffdaac3, 0xfffc980f, 0xfffb95c2, 0xfffaa43a, 0xfff9c3d3, 0xfff8f4f0,
    0xfff837f0, 0xfff78d3a, 0xfff6f532, 0xfff67043, 0xfff5fed7, 0xfff5a15b, 0xfff5583f, 0xfff523f6,
    0xfff504f3, 0xfff4fbaf, 0xfff508a4, 0xfff52c4d, 0xfff5672a, 0xfff5b9be, 0xfff6248c, 0xfff6a81e,
    0xfff744fd, 0xfff7fbb8, 0xfff8ccdf, 0xfff9b907, 0xfffac0c7, 0xfffbe4ba, 0xfffd257d, 0xfffe83b3};
inline f32x16 root(f32x16 shifted) {
  const __m512i bits = _mm512_castps_si512(shifted.v);
  const __m512i table = _mm512_permutex2var_epi32(_mm512_load_si512(kRootBits), bits,
                                                  _mm512_load_si512(kRootBits + 16));
  return {_mm512_castsi512_ps(_mm512_add_epi32(table, _mm512_slli_epi32(bits, 18)))};
}
inline f32x16 abs(f32x16 a) { return {_mm512_abs_ps(a.v)}; }
inline f32x16 copy_sign(f32x16 magnitude, f32x16 sign) {
  const __m512 bit = _mm512_set1_ps(-0.0f);
  return {_mm512_or_ps(_mm512_andnot_ps(bit, magnitude.v), _mm512_and_ps(bit, sign.v))};
}
/** The first `lanes` lanes of a, `fill` in the rest. */
inline f32x16 keep_lanes(f32x16 a, int32_t lanes, float fill) {
  return {_mm512_mask_blend_ps(lane_mask(lanes), _mm512_set1_ps(fill), a.v)};
}

inline float reduce_sum(f32x16 a) {
  const __m256 h = _mm256_add_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
  const __m128 q = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
  const __m128 d = _mm_add_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_add_ss(d, _mm_movehdup_ps(d)));
}
inline float reduce_max(f32x16 a) {
  const __m256 h = _mm256_max_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
  const __m128 q = _mm_max_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
  const __m128 d = _mm_max_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_max_ss(d, _mm_movehdup_ps(d)));
}

inline void store(f16 *p, f32x16 a) {
  _mm256_storeu_si256((__m256i *)p,
                      _mm512_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
inline void store(bf16 *p, f32x16 a) {
  const __m512i u = _mm512_castps_si512(a.v);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
  __m512i r = _mm512_add_epi32(u, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  // Rounding could carry a NaN's payload into infinity: keep its top bits and make it quiet.
  r = _mm512_mask_or_epi32(r, _mm512_cmp_ps_mask(a.v, a.v, _CMP_UNORD_Q), u,
                           _mm512_set1_epi32(0x400000));
  _mm256_storeu_si256((__m256i *)p, _mm512_cvtepi32_epi16(_mm512_srli_epi32(r, 16)));
}

/** Rows become columns. */
inline void transpose(f32x16 (&r)[16]) {
  __m512 t[16];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) { // pairs of rows: (a0 b0 a1 b1) per 128-bit lane
    t[2 * i] = _mm512_unpacklo_ps(r[2 * i].v, r[2 * i + 1].v);
    t[2 * i + 1] = _mm512_unpackhi_ps(r[2 * i].v, r[2 * i + 1].v);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) { // fours of rows: column 4 * lane + j of rows 4i .. 4i+3
    const __m512d a = _mm512_castps_pd(t[4 * i]), b = _mm512_castps_pd(t[4 * i + 2]);
    const __m512d c = _mm512_castps_pd(t[4 * i + 1]), d = _mm512_castps_pd(t[4 * i + 3]);
    r[4 * i].v = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
    r[4 * i + 1].v = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
    r[4 * i + 2].v = _mm512_castpd_ps(_mm512_unpacklo_pd(c, d));
    r[4 * i + 3].v = _mm512_castpd_ps(_mm512_unpackhi_pd(c, d));
  }
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) { // a 4x4 transpose of 128-bit lanes for each j
    const __m512 lo01 = _mm512_shuffle_f32x4(r[j].v, r[4 + j].v, 0x44);
    const __m512 hi01 = _mm512_shuffle_f32x4(r[j].v, r[4 + j].v, 0xee);
    const __m512 lo23 = _mm512_shuffle_f32x4(r[8 + j].v, r[12 + j].v, 0x44);
    const __m512 hi23 = _mm512_shuffle_f32x4(r[8 + j].v, r[12 + j].v, 0xee);
    t[j] = _mm512_shuffle_f32x4(lo01, lo23, 0x88);
    t[4 + j] = _mm512_shuffle_f32x4(lo01, lo23, 0xdd);
    t[8 + j] = _mm512_shuffle_f32x4(hi01, hi23, 0x88);
    t[12 + j] = _mm512_shuffle_f32x4(hi01, hi23, 0xdd);
  }
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) r[i].v = t[i];
}
