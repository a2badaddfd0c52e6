/** @file f32x16 as two 256-bit registers. Included by simd.hpp inside the namespace of the
 * instruction set. */

struct f32x16 {
  __m256 lo, hi;
};

constexpr int32_t kTileRows =
    6; // rows x panels of the register tile: 12 accumulators of 16 registers
constexpr int32_t kTilePanels = 1;
constexpr int32_t kPieceRows =
    320;                           // of a panel's K that stay in the first cache while pixels go by
constexpr bool kPairs = false;     // whether there may be products of bfloat16 (pair_tile.hpp)
constexpr bool kWidenFirst = true; // whether widening 16-bit weights costs more than a load
constexpr int32_t kNormPixels = 4; // added up in registers at a time
constexpr const char *kIsaName = "avx2";

// Eight ones, then eight zeros: loading at 8 - n gives a mask of n lanes.
alignas(32) constexpr int32_t kLaneMasks[16] = {-1, -1, -1, -1, -1, -1, -1, -1,
                                                0,  0,  0,  0,  0,  0,  0,  0};
inline __m256i lane_mask(int32_t lanes) {
  const int32_t n = lanes < 0 ? 0 : lanes > 8 ? 8 : lanes;
  return _mm256_loadu_si256((const __m256i *)(kLaneMasks + 8 - n));
}

inline f32x16 splat(float x) {
  const __m256 v = _mm256_set1_ps(x);
  return {v, v};
}
inline f32x16 load(const float *p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
inline f32x16 load(const f16 *p) {
  return {_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)),
          _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p + 8)))};
}
inline __m256 widen_bf16(const bf16 *p) {
  const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));
  return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}
inline f32x16 load(const bf16 *p) { return {widen_bf16(p), widen_bf16(p + 8)}; }
inline void store(float *p, f32x16 a) {
  _mm256_storeu_ps(p, a.lo);
  _mm256_storeu_ps(p + 8, a.hi);
}
/** Past the caches; p a multiple of 64 bytes. Ends with write_fence(). */
inline void store_past_caches(float *p, f32x16 a) {
  _mm256_stream_ps(p, a.lo);
  _mm256_stream_ps(p + 8, a.hi);
}
inline void write_fence() { _mm_sfence(); }

inline f32x16 load_lanes(const float *p, int32_t lanes) {
  return {_mm256_maskload_ps(p, lane_mask(lanes)), _mm256_maskload_ps(p + 8, lane_mask(lanes - 8))};
}
// Not vmaskmovps, which takes a dozen cycles to store on some processors.
inline void store_lanes(float *p, f32x16 a, int32_t lanes) {
  if (lanes & 16) {
    store(p, a);
    return;
  }
  __m256 v = a.lo;
  if (lanes & 8) {
    _mm256_storeu_ps(p, v);
    p += 8;
    v = a.hi;
  }
  __m128 w = _mm256_castps256_ps128(v);
  if (lanes & 4) {
    _mm_storeu_ps(p, w);
    p += 4;
    w = _mm256_extractf128_ps(v, 1);
  }
  if (lanes & 2) {
    _mm_storel_pi((__m64 *)p, w);
    p += 2;
    w = _mm_movehl_ps(w, w);
  }
  if (lanes & 1) _mm_store_ss(p, w);
}

#define SLUICE_PAIRWISE(name, op) \
  inline f32x16 name(f32x16 a, f32x16 b) { return {op(a.lo, b.lo), op(a.hi, b.hi)}; }
SLUICE_PAIRWISE(operator+, _mm256_add_ps)
SLUICE_PAIRWISE(operator-, _mm256_sub_ps)
SLUICE_PAIRWISE(operator*, _mm256_mul_ps)
SLUICE_PAIRWISE(operator/, _mm256_div_ps)
inline __m256 reciprocal(__m256 a) {
  const __m256 y = _mm256_rcp_ps(a); // relative error 1.5 2^-12, squared by one step of Newton's
  return _mm256_fmadd_ps(y, _mm256_fnmadd_ps(a, y, _mm256_set1_ps(1.0f)), y);
}
/** 1 / a for a >= 1, within 3 units in the last place; 0 from 2^126 on. */
inline f32x16 reciprocal(f32x16 a) { return {reciprocal(a.lo), reciprocal(a.hi)}; }
// Where an operand is not a number, min and max return b.
SLUICE_PAIRWISE(min, _mm256_min_ps)
SLUICE_PAIRWISE(max, _mm256_max_ps)
#undef SLUICE_PAIRWISE
inline f32x16 fma(f32x16 a, f32x16 b, f32x16 c) {
  return {_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}
inline f32x16 fnma(f32x16 a, f32x16 b, f32x16 c) {
  return {_mm256_fnmadd_ps(a.lo, b.lo, c.lo), _mm256_fnmadd_ps(a.hi, b.hi, c.hi)};
}
inline f32x16 round(f32x16 a) {
  constexpr int mode = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  return {_mm256_round_ps(a.lo, mode), _mm256_round_ps(a.hi, mode)};
}
/** a < b ? x : y */
inline f32x16 select_less(f32x16 a, f32x16 b, f32x16 x, f32x16 y) {
  return {_mm256_blendv_ps(y.lo, x.lo, _mm256_cmp_ps(a.lo, b.lo, _CMP_LT_OQ)),
          _mm256_blendv_ps(y.hi, x.hi, _mm256_cmp_ps(a.hi, b.hi, _CMP_LT_OQ))};
}
constexpr int32_t kRoots = 8; // see power_of_two
constexpr float kRootTerms[] = {0.0554962233f, 0.240257636f, 0.693147242f, 1.0f};
alignas(32) constexpr uint32_t kRootBits[kRoots] = {0x00000000, 0xfffb95c2, 0xfff837f0, 0xfff5fed7,
                                                    0xfff504f3, 0xfff5672a, 0xfff744fd, 0xfffac0c7};
inline __m256 root(__m256 shifted) {
  const __m256i bits = _mm256_castps_si256(shifted);
  const __m256i table =
      _mm256_permutevar8x32_epi32(_mm256_load_si256((const __m256i *)kRootBits), bits);
  return _mm256_castsi256_ps(_mm256_add_epi32(table, _mm256_slli_epi32(bits, 20)));
}
inline f32x16 root(f32x16 shifted) { return {root(shifted.lo), root(shifted.hi)}; }
inline f32x16 abs(f32x16 a) {
  const __m256 bit = _mm256_set1_ps(-0.0f);
  return {_mm256_andnot_ps(bit, a.lo), _mm256_andnot_ps(bit, a.hi)};
}
inline f32x16 copy_sign(f32x16 magnitude, f32x16 sign) {
  const __m256 bit = _mm256_set1_ps(-0.0f);
  return {_mm256_or_ps(_mm256_andnot_ps(bit, magnitude.lo), _mm256_and_ps(bit, sign.lo)),
          _mm256_or_ps(_mm256_andnot_ps(bit, magnitude.hi), _mm256_and_ps(bit, sign.hi))};
}
/** The first `lanes` lanes of a, `fill` in the rest. */
inline f32x16 keep_lanes(f32x16 a, int32_t lanes, float fill) {
  const __m256 f = _mm256_set1_ps(fill);
  return {_mm256_blendv_ps(f, a.lo, _mm256_castsi256_ps(lane_mask(lanes))),
          _mm256_blendv_ps(f, a.hi, _mm256_castsi256_ps(lane_mask(lanes - 8)))};
}

inline float reduce_sum(f32x16 a) {
  const __m256 h = _mm256_add_ps(a.lo, a.hi);
  const __m128 q = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
  const __m128 d = _mm_add_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_add_ss(d, _mm_movehdup_ps(d)));
}
inline float reduce_max(f32x16 a) {
  const __m256 h = _mm256_max_ps(a.lo, a.hi);
  const __m128 q = _mm_max_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
  const __m128 d = _mm_max_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_max_ss(d, _mm_movehdup_ps(d)));
}

inline void store(f16 *p, f32x16 a) {
  constexpr int mode = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph(a.lo, mode));
  _mm_storeu_si128((__m128i *)(p + 8), _mm256_cvtps_ph(a.hi, mode));
}
inline __m256i narrow_bf16(__m256 a) {
  const __m256i u = _mm256_castps_si256(a);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
  const __m256i r = _mm256_add_epi32(u, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
  // Rounding could carry a NaN's payload into infinity: keep its top bits and make it quiet.
  const __m256i quiet = _mm256_or_si256(u, _mm256_set1_epi32(0x400000));
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(a, a, _CMP_UNORD_Q));
  return _mm256_srli_epi32(_mm256_blendv_epi8(r, quiet, nan), 16);
}
inline void store(bf16 *p, f32x16 a) {
  const __m256i packed = _mm256_packus_epi32(narrow_bf16(a.lo), narrow_bf16(a.hi));
  _mm256_storeu_si256((__m256i *)p, _mm256_permute4x64_epi64(packed, 0xd8));
}

inline void transpose8(__m256 &a, __m256 &b, __m256 &c, __m256 &d, __m256 &e, __m256 &f, __m256 &g,
                       __m256 &h) {
  const __m256 ab0 = _mm256_unpacklo_ps(a, b), ab1 = _mm256_unpackhi_ps(a, b);
  const __m256 cd0 = _mm256_unpacklo_ps(c, d), cd1 = _mm256_unpackhi_ps(c, d);
  const __m256 ef0 = _mm256_unpacklo_ps(e, f), ef1 = _mm256_unpackhi_ps(e, f);
  const __m256 gh0 = _mm256_unpacklo_ps(g, h), gh1 = _mm256_unpackhi_ps(g, h);
  const __m256 r0 = _mm256_shuffle_ps(ab0, cd0, 0x44), r1 = _mm256_shuffle_ps(ab0, cd0, 0xee);
  const __m256 r2 = _mm256_shuffle_ps(ab1, cd1, 0x44), r3 = _mm256_shuffle_ps(ab1, cd1, 0xee);
  const __m256 s0 = _mm256_shuffle_ps(ef0, gh0, 0x44), s1 = _mm256_shuffle_ps(ef0, gh0, 0xee);
  const __m256 s2 = _mm256_shuffle_ps(ef1, gh1, 0x44), s3 = _mm256_shuffle_ps(ef1, gh1, 0xee);
  a = _mm256_permute2f128_ps(r0, s0, 0x20), e = _mm256_permute2f128_ps(r0, s0, 0x31);
  b = _mm256_permute2f128_ps(r1, s1, 0x20), f = _mm256_permute2f128_ps(r1, s1, 0x31);
  c = _mm256_permute2f128_ps(r2, s2, 0x20), g = _mm256_permute2f128_ps(r2, s2, 0x31);
  d = _mm256_permute2f128_ps(r3, s3, 0x20), h = _mm256_permute2f128_ps(r3, s3, 0x31);
}
/** Rows become columns. */
inline void transpose(f32x16 (&r)[16]) {
  transpose8(r[0].lo, r[1].lo, r[2].lo, r[3].lo, r[4].lo, r[5].lo, r[6].lo, r[7].lo);
  transpose8(r[8].hi, r[9].hi, r[10].hi, r[11].hi, r[12].hi, r[13].hi, r[14].hi, r[15].hi);
  transpose8(r[0].hi, r[1].hi, r[2].hi, r[3].hi, r[4].hi, r[5].hi, r[6].hi, r[7].hi);
  transpose8(r[8].lo, r[9].lo, r[10].lo, r[11].lo, r[12].lo, r[13].lo, r[14].lo, r[15].lo);
  for (int i = 0; i < 8; ++i) { // the off-diagonal quarters change places
    const __m256 upper = r[i].hi;
    r[i].hi = r[8 + i].lo;
    r[8 + i].lo = upper;
  }
}
