#include "emulation/products.hpp"

#include <algorithm>
#include <cstring>

#include "emulation/boxes.hpp"
#include "emulation/order.hpp"
#include "emulation/state.hpp"

namespace sluice::emulation {
namespace {

constexpr uint32_t kWarpsOfGroup = kGroup / kWarp, kRows = 64, kDepth = 16, kMostColumns = 256;
constexpr uint32_t kPoison = 0x7fbadadd; ///< not a number, in sums under way

/** A matrix in shared memory, as its descriptor names it (see ptx_hopper.hpp). */
struct Matrix {
  uint32_t start, leading, stride;
  CUtensorMapSwizzle swizzle;
  uint32_t width; ///< bytes of the swizzle

  /** Where the unit of 16 bytes lies that holds a row's eight of the depth. */
  uint32_t rows_unit(uint32_t row, uint32_t depth) const {
    return swizzled(swizzle, start + row / 8 * stride + row % 8 * width + depth * 2);
  }
  /** The same of eight columns at one place in the depth. */
  uint32_t columns_unit(uint32_t depth, uint32_t column) const {
    const uint32_t across = width / 2;
    return swizzled(swizzle, start + column / across * leading + column % across * 2 +
                                 depth / 8 * stride + depth % 8 * width);
  }
};

/** Bytes that products of a group read. */
struct Read {
  uint32_t begin, end, group;
  uint32_t last;             ///< product
  bool ended[kWarpsOfGroup]; ///< for the warp: it has waited
  uint32_t times[kGroup];    ///< of its threads then
};

struct Product {
  Matrix a, b;
  uint32_t columns, sums;
  float (*widen)(uint16_t bits);
  Site site;
};

/** Sums of a group: its threads' registers, and what they really hold while products are under way.
 */
struct Sums {
  float *registers[kGroup];
  uint32_t count;
  std::vector<float> values;
  uint32_t last; ///< product
  bool under_way[kWarpsOfGroup];
};

struct WarpState {
  bool fenced = false;
  std::vector<uint32_t> ends; ///< of committed groups of products
  uint32_t waited = 0;        ///< products
};

struct GroupState {
  std::vector<Product> products;
  uint32_t done = 0; ///< of them
  std::vector<Sums> sums;
  WarpState warps[kWarpsOfGroup];
};

struct State {
  std::vector<GroupState> groups;
  std::vector<Read> reads;
};

thread_local State state;

GroupState &own_group() {
  const uint32_t number = running->current / kGroup;
  if (state.groups.size() <= number) state.groups.resize(running->groups.size());
  return state.groups[number];
}

WarpState &own_warp() { return own_group().warps[running->current % kGroup / kWarp]; }

Matrix decoded(uint64_t descriptor, const char *name, Site site) {
  const auto field = [&](uint32_t from) { return uint32_t(descriptor >> from & 0x3fff) << 4; };
  Matrix m{field(0), field(16), field(32), CU_TENSOR_MAP_SWIZZLE_128B, 128};
  const uint32_t swizzle = uint32_t(descriptor >> 62);
  if (swizzle == 3)
    m.swizzle = CU_TENSOR_MAP_SWIZZLE_32B, m.width = 32;
  else if (swizzle != 1)
    fault(site, "wgmma: %s has swizzle %u in its descriptor", name, swizzle);
  if (descriptor >> 49 & 7 || m.start % (8 * m.width) >= m.width)
    fault(site, "wgmma: %s begins at %u, within the pattern of its swizzle", name, m.start);
  return m;
}

/** The sums of a product over its depth in ascending order, added to what is there. */
void multiply(GroupState &group, const Product &p) {
  static thread_local float a[kRows][kDepth], b[kDepth][kMostColumns];
  const auto widen = [&](uint32_t at, float *to) {
    uint16_t bits[8];
    std::memcpy(bits, shared_bytes(at), sizeof bits);
    for (uint32_t i = 0; i < 8; ++i) to[i] = p.widen(bits[i]);
  };
  for (uint32_t row = 0; row < kRows; ++row)
    for (uint32_t k = 0; k < kDepth; k += 8) widen(p.a.rows_unit(row, k), &a[row][k]);
  for (uint32_t k = 0; k < kDepth; ++k)
    for (uint32_t n = 0; n < p.columns; n += 8) widen(p.b.columns_unit(k, n), &b[k][n]);
  Sums &sums = group.sums[p.sums];
  for (uint32_t row = 0; row < kRows; ++row) {
    float sum[kMostColumns] = {};
    for (uint32_t k = 0; k < kDepth; ++k)
      for (uint32_t n = 0; n < p.columns; ++n) sum[n] += a[row][k] * b[k][n];
    for (uint32_t n = 0; n < p.columns; ++n) {
      const uint32_t thread = row / 16 * kWarp + row % 8 * 4 + n % 8 / 2;
      sums.values[thread * sums.count + n / 8 * 4 + row % 16 / 8 * 2 + n % 2] += sum[n];
    }
  }
}

void multiply_until(GroupState &group, uint32_t end) {
  for (; group.done < end; ++group.done) multiply(group, group.products[group.done]);
}

/** The sums that a product adds to; registers that are not under way are taken from the threads. */
uint32_t take_sums(GroupState &group, void *const *deposits, uint32_t product) {
  const auto deposit = [&](uint32_t i) { return static_cast<ProductDeposit *>(deposits[i]); };
  uint32_t number = 0;
  while (number < group.sums.size() && group.sums[number].registers[0] != deposit(0)->sums)
    ++number;
  if (number == group.sums.size()) {
    group.sums.push_back({});
    group.sums[number].count = deposit(0)->columns / 2;
    group.sums[number].values.resize(size_t(kGroup) * group.sums[number].count);
  }
  Sums &sums = group.sums[number];
  sums.last = product;
  for (uint32_t w = 0; w < kWarpsOfGroup; ++w) {
    if (sums.under_way[w]) continue;
    if (!group.warps[w].fenced)
      fault(deposit(0)->site, "wgmma: sums that other instructions wrote: no wgmma.fence between");
    for (uint32_t i = w * kWarp; i < (w + 1) * kWarp; ++i) {
      sums.registers[i] = deposit(i)->sums;
      std::memcpy(&sums.values[i * sums.count], sums.registers[i], sums.count * 4);
      for (uint32_t j = 0; j < sums.count; ++j)
        std::memcpy(sums.registers[i] + j, &kPoison, sizeof kPoison);
    }
    sums.under_way[w] = true;
  }
  return number;
}

/** Gives a warp its sums back. */
void give_sums(Sums &sums, uint32_t warp, Site site) {
  for (uint32_t i = warp * kWarp; i < (warp + 1) * kWarp; ++i) {
    for (uint32_t j = 0; j < sums.count; ++j)
      if (std::memcmp(sums.registers[i] + j, &kPoison, sizeof kPoison) != 0)
        fault(site, "wgmma: sums were written while a product was under way");
    std::memcpy(sums.registers[i], &sums.values[i * sums.count], sums.count * 4);
  }
  sums.under_way[warp] = false;
}

/** Bytes between the first and the last unit that are read. */
class Extent {
 public:
  Extent(uint32_t group, uint32_t product, Site site)
      : group_(group), product_(product), site_(site) {}
  void add(uint32_t unit) {
    check_product_read(unit, group_, site_);
    begin_ = std::min(begin_, unit), end_ = std::max(end_, unit + 16);
  }
  void note() const {
    for (Read &r : state.reads) {
      if (r.begin != begin_ || r.end != end_ || r.group != group_) continue;
      r = {begin_, end_, group_, product_, {}, {}};
      return;
    }
    state.reads.push_back({begin_, end_, group_, product_, {}, {}});
  }

 private:
  uint32_t group_, product_;
  Site site_;
  uint32_t begin_ = ~0u, end_ = 0;
};

void begin_product(void *, void *const *deposits) {
  GroupState &group = own_group();
  const uint32_t number = running->current / kGroup;
  const auto &mine = *static_cast<ProductDeposit *>(deposits[0]);
  for (uint32_t i = 1; i < kGroup; ++i) {
    const auto &other = *static_cast<ProductDeposit *>(deposits[i]);
    if (other.a != mine.a || other.b != mine.b)
      fault(mine.site, "wgmma: threads of a group name different matrices");
  }
  Product p;
  p.a = decoded(mine.a, "A", mine.site), p.b = decoded(mine.b, "B", mine.site);
  p.columns = mine.columns, p.widen = mine.widen, p.site = mine.site;
  const uint32_t product = uint32_t(group.products.size());
  p.sums = take_sums(group, deposits, product);
  Extent rows(number, product, mine.site);
  for (uint32_t row = 0; row < kRows; ++row)
    for (uint32_t k = 0; k < kDepth; k += 8) rows.add(p.a.rows_unit(row, k));
  rows.note();
  const uint32_t across = p.b.width / 2;
  for (uint32_t n = 0; n < p.columns; n += across) {
    Extent columns(number, product, mine.site);
    for (uint32_t k = 0; k < kDepth; ++k)
      for (uint32_t i = n; i < std::min(n + across, p.columns); i += 8)
        columns.add(p.b.columns_unit(k, i));
    columns.note();
  }
  group.products.push_back(p);
  if (draw() % 2) multiply_until(group, product + 1);
}

struct WaitDeposit {
  uint32_t left;
  Site site;
};

void end_wait(void *, void *const *deposits) {
  const auto &mine = *static_cast<WaitDeposit *>(deposits[0]);
  GroupState &group = own_group();
  WarpState &warp = own_warp();
  const uint32_t w = running->current % kGroup / kWarp, number = running->current / kGroup;
  if (warp.ends.size() > mine.left) warp.waited = warp.ends[warp.ends.size() - 1 - mine.left];
  multiply_until(group, warp.waited);
  for (Sums &sums : group.sums) {
    if (!sums.under_way[w] || sums.last >= warp.waited) continue;
    give_sums(sums, w, mine.site);
    warp.fenced = false;
  }
  for (Read &r : state.reads) {
    if (r.group != number || r.last >= warp.waited || r.ended[w]) continue;
    r.ended[w] = true;
    for (uint32_t i = w * kWarp; i < (w + 1) * kWarp; ++i)
      r.times[i] = order_now(number * kGroup + i);
  }
}

} // namespace

void product_add(ProductDeposit &mine, Site site) {
  if (limits().architecture != 90)
    fault(site, "wgmma: needs sm_90a, this is sm_%d", limits().architecture);
  order_begin();
  meet_group(Meeting::product, &mine, begin_product, nullptr, site);
}

void product_fence(Site site) {
  meet(
      Meeting::product_fence, nullptr, [](void *, void *const *) { own_warp().fenced = true; },
      nullptr, site);
}

void product_commit(Site site) {
  meet(
      Meeting::product_commit, nullptr,
      [](void *, void *const *) {
        own_warp().ends.push_back(uint32_t(own_group().products.size()));
      },
      nullptr, site);
}

void product_wait(uint32_t left, Site site) {
  WaitDeposit mine{left, site};
  meet(Meeting::product_wait, &mine, end_wait, nullptr, site);
}

void check_product_reads_end(uint32_t begin, uint32_t bytes, Site site) {
  const uint32_t end = begin + bytes;
  for (size_t i = state.reads.size(); i-- > 0;) {
    const Read &r = state.reads[i];
    if (end <= r.begin || begin >= r.end) continue;
    for (uint32_t w = 0; w < kWarpsOfGroup; ++w) {
      bool known = false;
      for (uint32_t lane = 0; lane < kWarp && r.ended[w] && !known; ++lane) {
        const uint32_t in_group = w * kWarp + lane;
        known = order_knows(running->current, r.group * kGroup + in_group, r.times[in_group]);
      }
      if (!known)
        fault(site, "race: shared byte %u is written while wgmma reads it: no wait between",
              std::max(begin, r.begin));
    }
    if (begin <= r.begin && r.end <= end) state.reads.erase(state.reads.begin() + int64_t(i));
  }
}

void products_block_begin() {
  state.groups.clear();
  state.reads.clear();
}

void products_block_end() {
  for (uint32_t i = 0; i < state.groups.size(); ++i) {
    for (const Sums &sums : state.groups[i].sums) {
      for (const bool under_way : sums.under_way) {
        if (!under_way) continue;
        running->fault = described(i * kGroup, state.groups[i].products[sums.last].site,
                                   "a product that begins here is never waited for");
        return;
      }
    }
  }
}

} // namespace sluice::emulation
