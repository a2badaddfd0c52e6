/**
 * @file
 * The tile registers of AMX in plain C++, bit for bit as Intel's manual gives their operations
 * (volume 2), so that the kernels that use them can be tested on machines without. What is a fault
 * there is an error here.
 */
#pragma once

#include <cstdint>

namespace sluice::SLUICE_ISA_NAMESPACE {

/** What LDTILECFG reads. */
struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};
static_assert(sizeof(TileConfig) == 64);

constexpr int32_t kTiles = 8, kMostTileRows = 16, kMostRowBytes = 64; // of palette 1

inline float float_of(uint32_t bits) { return __builtin_bit_cast(float, bits); }
inline uint32_t bits_of(float value) { return __builtin_bit_cast(uint32_t, value); }

/** Subnormals as zero, their sign kept. */
inline float flushed(float x) {
  const uint32_t bits = bits_of(x);
  return float_of((bits & 0x7f800000) ? bits : bits & 0x80000000);
}

/** The bfloat16 nearest to a value, ties to even and subnormals as zero: VCVTNE2PS2BF16. */
inline uint16_t nearest_bf16(float value) {
  const uint32_t bits = bits_of(value), size = bits & 0x7fffffff;
  if (size < 0x00800000) return (uint16_t)(bits >> 16 & 0x8000);
  if (size > 0x7f800000) return (uint16_t)(bits >> 16 | 0x40); // NaN, made quiet
  return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/** One thread's tiles. After an error nothing is done any more. */
class ModelTiles {
 public:
  static constexpr bool kHardware = false;

  explicit ModelTiles(const TileConfig &config) { configure(config); }
  ModelTiles(const ModelTiles &) = delete;
  ModelTiles &operator=(const ModelTiles &) = delete;

  /** What went wrong first; null where nothing did. */
  const char *error() const { return error_; }

  void configure(const TileConfig &config) {
    release();
    bool legal = config.palette == 1;
    for (const uint8_t byte : config.reserved) legal = legal && byte == 0;
    for (int32_t t = 0; t < 16; ++t) {
      const int32_t rows = config.rows[t], bytes = config.row_bytes[t];
      legal =
          legal && rows <= kMostTileRows && bytes <= kMostRowBytes && (rows == 0) == (bytes == 0);
      legal = legal && (t < kTiles || rows == 0);
    }
    if (config.palette == 0) return; // the same as to release
    if (!legal) return fail("ldtilecfg: expected a configuration of palette 1");
    if (config.start_row != 0) return fail("ldtilecfg: expected no interrupted load");
    configured_ = true;
    for (int32_t t = 0; t < kTiles; ++t) {
      tiles_[t].rows = config.rows[t];
      tiles_[t].row_bytes = config.row_bytes[t];
    }
  }

  void release() {
    configured_ = false;
    for (Tile &tile : tiles_) tile = {};
  }

  void load(int32_t t, const void *from, int64_t stride) {
    if (!valid(t)) return fail("tileloadd: expected a configured tile");
    Tile &tile = tiles_[t];
    __builtin_memset(tile.bytes, 0, sizeof tile.bytes);
    for (int32_t m = 0; m < tile.rows; ++m)
      __builtin_memcpy(tile.bytes[m], (const char *)from + m * stride, tile.row_bytes);
  }

  void store(int32_t t, void *to, int64_t stride) {
    if (!valid(t)) return fail("tilestored: expected a configured tile");
    const Tile &tile = tiles_[t];
    for (int32_t m = 0; m < tile.rows; ++m)
      __builtin_memcpy((char *)to + m * stride, tile.bytes[m], tile.row_bytes);
  }

  /** TDPBF16PS: c += a b, a's rows of pairs of k times b's, a row of which is one pair of k. */
  void products(int32_t c, int32_t a, int32_t b);

  template <int T>
  void load(const void *from, int64_t stride) {
    load(T, from, stride);
  }
  template <int T>
  void store(void *to, int64_t stride) {
    store(T, to, stride);
  }
  template <int C, int A, int B>
  void products() {
    products(C, A, B);
  }

 private:
  struct Tile {
    int32_t rows, row_bytes;
    alignas(64) uint8_t bytes[kMostTileRows][kMostRowBytes];
  };

  bool valid(int32_t t) const { return !error_ && configured_ && t < kTiles && tiles_[t].rows; }
  void fail(const char *error) {
    if (!error_) error_ = error;
  }

  Tile tiles_[kTiles];
  bool configured_;
  const char *error_ = nullptr;
};

inline void ModelTiles::products(int32_t c, int32_t a, int32_t b) {
  if (c == a || a == b || b == c) return fail("tdpbf16ps: expected three tiles");
  if (!valid(a) || !valid(b) || !valid(c)) return fail("tdpbf16ps: expected configured tiles");
  const Tile &left = tiles_[a], &right = tiles_[b];
  Tile &sums = tiles_[c];
  if (sums.rows != left.rows || sums.row_bytes != right.row_bytes ||
      left.row_bytes != 4 * right.rows || sums.row_bytes % 4 != 0)
    return fail("tdpbf16ps: expected tiles that fit each other");
  const int32_t pairs = right.rows, columns = sums.row_bytes / 4;
  constexpr int32_t kColumns = kMostRowBytes / 4;
  // Each pair's first and second k apart; columns that are not there are zeros in the tile.
  float first[kMostTileRows][kColumns], second[kMostTileRows][kColumns];
  for (int32_t k = 0; k < pairs; ++k) {
    uint32_t row[kColumns];
    __builtin_memcpy(row, right.bytes[k], sizeof row);
    for (int32_t n = 0; n < kColumns; ++n) {
      first[k][n] = flushed(float_of(row[n] << 16));
      second[k][n] = flushed(float_of(row[n] & 0xffff0000));
    }
  }
  for (int32_t m = 0; m < sums.rows; ++m) {
    uint32_t row[kMostTileRows];
    __builtin_memcpy(row, left.bytes[m], sizeof row);
    float even[kColumns] = {}, odd[kColumns] = {};
    for (int32_t k = 0; k < pairs; ++k) {
      const float x = flushed(float_of(row[k] << 16));
      const float y = flushed(float_of(row[k] & 0xffff0000));
      for (int32_t n = 0; n < kColumns; ++n) {
        even[n] = flushed(__builtin_fmaf(x, first[k][n], even[n]));
        odd[n] = flushed(__builtin_fmaf(y, second[k][n], odd[n]));
      }
    }
    float sum[kColumns];
    __builtin_memcpy(sum, sums.bytes[m], sizeof sum);
    for (int32_t n = 0; n < columns; ++n)
      sum[n] = flushed(flushed(sum[n]) + flushed(even[n] + odd[n]));
    __builtin_memcpy(sums.bytes[m], sum, sizeof sum);
  }
}

} // namespace sluice::SLUICE_ISA_NAMESPACE
