/**
 * @file
 * Checks the model of AMX against arithmetic in double, against what decides how sums are rounded,
 * and against what must be a fault.
 */
#include <immintrin.h>

#include <cmath>
#include <vector>

#include "checks.hpp"

using namespace sluice::SLUICE_ISA_NAMESPACE;

namespace {

TileConfig shapes(int32_t rows, int32_t pairs, int32_t columns) {
  TileConfig config;
  config.rows[0] = (uint8_t)rows, config.row_bytes[0] = (uint16_t)(4 * columns);
  config.rows[1] = (uint8_t)rows, config.row_bytes[1] = (uint16_t)(4 * pairs);
  config.rows[2] = (uint8_t)pairs, config.row_bytes[2] = (uint16_t)(4 * columns);
  return config;
}

/** Every shape against sums in double, and nothing written beside a tile. */
void check_products() {
  for (int32_t round = 0; round < 300; ++round) {
    const int32_t rows = between(1, 16), pairs = between(1, 16), columns = between(1, 16);
    uint16_t a[16][40], b[16][40];
    float c[16][20], to[16][20];
    for (auto &row : a)
      for (auto &x : row) x = bf16_of((float)between(-99, 99) / 64);
    for (auto &row : b)
      for (auto &x : row) x = bf16_of((float)between(-99, 99) / 64);
    for (auto &row : c)
      for (auto &x : row) x = (float)between(-99, 99) / 64;
    for (auto &row : to)
      for (auto &x : row) x = 77;
    ModelTiles tiles(shapes(rows, pairs, columns));
    tiles.load(0, c, sizeof c[0]);
    tiles.load(1, a, sizeof a[0]);
    tiles.load(2, b, sizeof b[0]);
    tiles.products(0, 1, 2);
    tiles.store(0, to, sizeof to[0]);
    expect(!tiles.error(), "a legal product");
    for (int32_t m = 0; m < 16; ++m) {
      for (int32_t n = 0; n < 20; ++n) {
        double sum = c[m][n];
        for (int32_t k = 0; k < 2 * pairs; ++k)
          sum += (double)value_of(a[m][k]) * value_of(b[k / 2][2 * n + k % 2]);
        const bool inside = m < rows && n < columns;
        // All is exact: multiples of 2^-14 below 2^7.
        expect(to[m][n] == (inside ? (float)sum : 77.0f), "a product as in double");
      }
    }
  }
}

/** c + a b for one row and column, of up to 32 k. */
float product_of(std::vector<float> a, std::vector<float> b, float c) {
  uint16_t left[32] = {}, right[16][2] = {};
  for (size_t k = 0; k < a.size(); ++k) {
    // Cut off, as rounding would lose subnormals.
    left[k] = (uint16_t)(bits_of(a[k]) >> 16);
    right[k / 2][k % 2] = (uint16_t)(bits_of(b[k]) >> 16);
  }
  ModelTiles tiles(shapes(1, 16, 1));
  tiles.load(0, &c, 4);
  tiles.load(1, left, 64);
  tiles.load(2, right, 4);
  tiles.products(0, 1, 2);
  tiles.store(0, &c, 4);
  expect(!tiles.error(), "a product of one element");
  return c;
}

/** Where the order of sums, their rounding and subnormals show. */
void check_rounding() {
  const float big = 0x1p24f;
  expect(product_of({big, 1, -big, 1}, {1, 1, 1, 1}, 0) == 2, "even and odd k are summed apart");
  expect(product_of({1, 1}, {1, 1}, big) == big + 2, "c is added last");
  expect(product_of({big, 0, 1, 0, 1}, {1, 1, 1, 1, 1}, 0) == big, "k ascends, ties go to even");
  expect(nearest_bf16(257.0f / 256) == nearest_bf16(1), "a tie goes to the even neighbour");
  expect(product_of({1, 0, 0x1p64f}, {-0x1p127f, 0, 0x1p64f}, 0) == 0x1p127f,
         "a product does not overflow before it is added");
  expect(product_of({0x1p-65f}, {0x1p-65f}, 0) == 0, "a subnormal product is zero");
  expect(product_of({0x1p-60f, 0, -0x1p-60f}, {0x1.02p-66f, 0, 0x1p-66f}, 0) == 0,
         "a subnormal sum is zero");
  expect(product_of({1}, {0}, 0x1p-130f) == 0, "a subnormal c is zero");
  const float tiny = 0x1p-130f, large = 0x1p120f;
  expect(product_of({tiny, tiny}, {large, large}, 0) == 0, "a subnormal a is zero");
  expect(product_of({large}, {tiny}, 0) == 0, "a subnormal b of an even k is zero");
  expect(product_of({0, large}, {0, tiny}, 0) == 0, "a subnormal b of an odd k is zero");
  expect(std::signbit(product_of({-0.0f}, {1}, -0.0f)) == false, "a sum from +0 is +0");
  expect(nearest_bf16(float_of(0x807fffff)) == 0x8000, "subnormals are rounded to zero");
  expect(nearest_bf16(float_of(0x7f7fffff)) == 0x7f80, "past the largest lies infinity");
  expect(nearest_bf16(float_of(0x7f800001)) == 0x7fc0, "a NaN stays one");
}

/** Conversion against the instruction, where there is one. */
__attribute__((target("avx512f,avx512bw,avx512vl,avx512bf16"))) void check_conversion() {
  uint64_t checked = 0;
  for (uint64_t first = 0; first < 1ull << 32; first += 16 * 4099) {
    alignas(64) float from[32];
    alignas(64) uint16_t to[32];
    for (int32_t i = 0; i < 32; ++i) // some about every tie
      from[i] =
          float_of((uint32_t)(i < 16 ? first + i * 4099 : ((first + i) << 16) + 0x7ffe + i % 4));
    _mm512_store_si512(
        to, (__m512i)_mm512_cvtne2ps_pbh(_mm512_load_ps(from + 16), _mm512_load_ps(from)));
    for (int32_t i = 0; i < 32; ++i, ++checked)
      expect(to[i] == nearest_bf16(from[i]), "conversion as the instruction does it");
  }
  printf("%llu conversions as by VCVTNE2PS2BF16\n", (unsigned long long)checked);
}

// ------------------------------------------------------------------------------------------------

void check_faults() {
  const TileConfig legal = shapes(3, 4, 5);
  const auto refused = [&](const char *what, auto change) {
    TileConfig config = legal;
    change(config);
    expect(ModelTiles(config).error() != nullptr, what);
  };
  expect(!ModelTiles(legal).error(), "a legal configuration");
  refused("palette 2", [](TileConfig &c) { c.palette = 2; });
  refused("17 rows", [](TileConfig &c) { c.rows[1] = 17; });
  refused("68 bytes", [](TileConfig &c) { c.row_bytes[1] = 68; });
  refused("rows without bytes", [](TileConfig &c) { c.row_bytes[1] = 0; });
  refused("bytes without rows", [](TileConfig &c) { c.rows[1] = 0; });
  refused("a ninth tile", [](TileConfig &c) { c.rows[8] = 1, c.row_bytes[8] = 4; });
  refused("reserved bytes", [](TileConfig &c) { c.reserved[13] = 1; });

  uint8_t memory[16 * 64] = {};
  const auto faulty = [&](const char *what, const TileConfig &config, auto act) {
    ModelTiles tiles(config);
    act(tiles);
    expect(tiles.error() != nullptr, what);
  };
  faulty("a load before configuration", legal,
         [&](ModelTiles &t) { t.release(), t.load(1, memory, 64); });
  faulty("a load of no tile", legal, [&](ModelTiles &t) { t.load(5, memory, 64); });
  faulty("a store of no tile", legal, [&](ModelTiles &t) { t.store(5, memory, 64); });
  faulty("a product with itself", legal, [](ModelTiles &t) { t.products(0, 1, 1); });
  faulty("a product in its operand", legal, [](ModelTiles &t) { t.products(0, 0, 2); });
  faulty("a product of no tile", legal, [](ModelTiles &t) { t.products(0, 1, 5); });
  TileConfig other = legal;
  other.rows[0] = 2;
  faulty("other rows in the sum", other, [](ModelTiles &t) { t.products(0, 1, 2); });
  other = legal, other.row_bytes[0] = 16;
  faulty("other columns in the sum", other, [](ModelTiles &t) { t.products(0, 1, 2); });
  other = legal, other.rows[2] = 3;
  faulty("another depth", other, [](ModelTiles &t) { t.products(0, 1, 2); });
  other = legal, other.row_bytes[0] = other.row_bytes[2] = 18;
  faulty("half a column", other, [](ModelTiles &t) { t.products(0, 1, 2); });
}

} // namespace

int main() {
  check_products();
  check_rounding();
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vl"))
    check_conversion();
  check_faults();
  printf("%d failures\n", failures);
  return failures ? 1 : 0;
}
