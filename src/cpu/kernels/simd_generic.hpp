/**
 * @file f32x16 as four compiler vectors of four floats (SSE2, NEON, or scalars: as the target has).
 * Included by simd.hpp inside the namespace of the instruction set.
 */

typedef float f32x4 __attribute__((vector_size(16)));
typedef int32_t i32x4 __attribute__((vector_size(16)));
typedef uint32_t u32x4 __attribute__((vector_size(16)));

struct f32x16 {
  f32x4 q[4];
};

#if defined(__aarch64__)
constexpr int32_t kTileRows = 4;
#else
constexpr int32_t kTileRows = 2; // eight accumulators of 16 registers
#endif
constexpr int32_t kTilePanels = 1;
constexpr int32_t kPieceRows =
    320;                           // of a panel's K that stay in the first cache while pixels go by
constexpr bool kPairs = false;     // whether there may be products of bfloat16 (pair_tile.hpp)
constexpr bool kWidenFirst = true; // whether widening 16-bit weights costs more than a load
constexpr int32_t kNormPixels = 4; // added up in registers at a time
constexpr const char *kIsaName = "generic";

inline f32x4 splat4(float x) { return f32x4{x, x, x, x}; }
inline f32x4 load4(const float *p) {
  f32x4 v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
inline f32x4 select4(i32x4 mask, f32x4 x, f32x4 y) {
  return (f32x4)((mask & (i32x4)x) | (~mask & (i32x4)y));
}

inline f32x16 splat(float x) {
  const f32x4 v = splat4(x);
  return {{v, v, v, v}};
}
inline f32x16 load(const float *p) {
  return {{load4(p), load4(p + 4), load4(p + 8), load4(p + 12)}};
}
inline void store(float *p, f32x16 a) { __builtin_memcpy(p, &a, sizeof a); }
inline void store_past_caches(float *p, f32x16 a) { store(p, a); }
inline void write_fence() {}

inline f32x4 widen4(const f16 *p) {
  const u32x4 h = {p[0].bits, p[1].bits, p[2].bits, p[3].bits};
  const u32x4 magnitude = h & 0x7fff;
  // Exponents differ by 112: a product moves them, and normalises what is subnormal in half
  // precision.
  const f32x4 finite = (f32x4)(magnitude << 13) * splat4(0x1p112f);
  const f32x4 special = (f32x4)((magnitude << 13) | 0x7f800000u);
  return (f32x4)((u32x4)select4((i32x4)(magnitude >= 0x7c00u), special, finite) |
                 ((h & 0x8000) << 16));
}
inline f32x4 widen4(const bf16 *p) {
  const u32x4 h = {p[0].bits, p[1].bits, p[2].bits, p[3].bits};
  return (f32x4)(h << 16);
}
inline f32x16 load(const f16 *p) {
  return {{widen4(p), widen4(p + 4), widen4(p + 8), widen4(p + 12)}};
}
inline f32x16 load(const bf16 *p) {
  return {{widen4(p), widen4(p + 4), widen4(p + 8), widen4(p + 12)}};
}

inline f32x16 load_lanes(const float *p, int32_t lanes) {
  float t[16] = {};
  for (int32_t i = 0; i < lanes; ++i) t[i] = p[i];
  return load(t);
}
inline void store_lanes(float *p, f32x16 a, int32_t lanes) {
  float t[16];
  store(t, a);
  for (int32_t i = 0; i < lanes; ++i) p[i] = t[i];
}

#define SLUICE_EACH(expression)                                              \
  f32x16 r;                                                                  \
  _Pragma("GCC unroll 4") for (int i = 0; i < 4; ++i) r.q[i] = (expression); \
  return r;
inline f32x16 operator+(f32x16 a, f32x16 b) { SLUICE_EACH(a.q[i] + b.q[i]) }
inline f32x16 operator-(f32x16 a, f32x16 b) { SLUICE_EACH(a.q[i] - b.q[i]) }
inline f32x16 operator*(f32x16 a, f32x16 b) { SLUICE_EACH(a.q[i] * b.q[i]) }
inline f32x16 operator/(f32x16 a, f32x16 b) { SLUICE_EACH(a.q[i] / b.q[i]) }
/** 1 / a for a >= 1. */
inline f32x16 reciprocal(f32x16 a) { SLUICE_EACH(1.0f / a.q[i]) }
inline f32x16 fma(f32x16 a, f32x16 b, f32x16 c) { SLUICE_EACH(a.q[i] * b.q[i] + c.q[i]) }
inline f32x16 fnma(f32x16 a, f32x16 b, f32x16 c) { SLUICE_EACH(c.q[i] - a.q[i] * b.q[i]) }
// Where an operand is not a number, min and max return b.
inline f32x16 min(f32x16 a, f32x16 b) { SLUICE_EACH(select4(a.q[i] < b.q[i], a.q[i], b.q[i])) }
inline f32x16 max(f32x16 a, f32x16 b) { SLUICE_EACH(select4(a.q[i] > b.q[i], a.q[i], b.q[i])) }
/** To the nearest whole number, for |a| < 2^22. */
inline f32x16 round(f32x16 a) { SLUICE_EACH((a.q[i] + splat4(0x1.8p23f)) - splat4(0x1.8p23f)) }
/** a < b ? x : y */
inline f32x16 select_less(f32x16 a, f32x16 b, f32x16 x, f32x16 y) {
  SLUICE_EACH(select4(a.q[i] < b.q[i], x.q[i], y.q[i]))
}
constexpr int32_t kRoots = 1; // see power_of_two
constexpr float kRootTerms[] = {1.53533620e-4f,
                                1.33988750e-3f,
                                9.61843692e-3f,
                                5.55033237e-2f,
                                2.40226477e-1f,
                                6.93147182e-1f,
                                1.0f};
inline f32x16 root(f32x16 shifted) { SLUICE_EACH((f32x4)((u32x4)shifted.q[i] << 23)) }
inline f32x16 abs(f32x16 a) { SLUICE_EACH((f32x4)((u32x4)a.q[i] & 0x7fffffffu)) }
inline f32x16 copy_sign(f32x16 m, f32x16 s) {
  SLUICE_EACH((f32x4)(((u32x4)m.q[i] & 0x7fffffffu) | ((u32x4)s.q[i] & 0x80000000u)))
}
#undef SLUICE_EACH
/** The first `lanes` lanes of a, `fill` in the rest. */
inline f32x16 keep_lanes(f32x16 a, int32_t lanes, float fill) {
  float t[16];
  store(t, a);
  for (int32_t i = lanes; i < 16; ++i) t[i] = fill;
  return load(t);
}

inline float reduce_sum(f32x16 a) {
  const f32x4 h = (a.q[0] + a.q[2]) + (a.q[1] + a.q[3]);
  return (h[0] + h[2]) + (h[1] + h[3]);
}
inline float reduce_max(f32x16 a) {
  float t[16], m;
  store(t, a);
  m = t[0];
  for (int i = 1; i < 16; ++i) m = m > t[i] ? m : t[i];
  return m;
}

inline uint16_t narrow_f16(float x) {
  uint32_t u;
  __builtin_memcpy(&u, &x, 4);
  const uint32_t sign = (u >> 16) & 0x8000u, magnitude = u & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return (uint16_t)(sign | 0x7e00u | ((magnitude >> 13) & 0x3ffu));
  if (magnitude >= 0x47800000u) return (uint16_t)(sign | 0x7c00u); // 65536 and above
  if (magnitude < 0x38800000u) { // subnormal: adding 0.5 puts the last kept bit at the unit place
    float m;
    __builtin_memcpy(&m, &magnitude, 4);
    m += 0.5f;
    uint32_t r;
    __builtin_memcpy(&r, &m, 4);
    return (uint16_t)(sign | (r - 0x3f000000u));
  }
  const uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
  return (uint16_t)(sign | ((rounded - 0x38000000u) >> 13));
}
inline void store(f16 *p, f32x16 a) {
  float t[16];
  store(t, a);
  for (int i = 0; i < 16; ++i) p[i].bits = narrow_f16(t[i]);
}
inline void store(bf16 *p, f32x16 a) {
  uint32_t t[16];
  __builtin_memcpy(t, &a, sizeof t);
  for (int i = 0; i < 16; ++i) {
    const uint32_t u = t[i];
    const bool nan =
        (u & 0x7fffffffu) > 0x7f800000u; // rounding could carry its payload into infinity
    p[i].bits = (uint16_t)((nan ? u | 0x400000u : u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
  }
}

/** Rows become columns. */
inline void transpose(f32x16 (&r)[16]) {
  float t[16][16];
  for (int i = 0; i < 16; ++i) store(t[i], r[i]);
  for (int i = 0; i < 16; ++i) {
    float column[16];
    for (int j = 0; j < 16; ++j) column[j] = t[j][i];
    r[i] = load(column);
  }
}
