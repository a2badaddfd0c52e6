#include "emulation/boxes.hpp"

#include <cstring>

#include "emulation/barriers.hpp"
#include "emulation/order.hpp"
#include "emulation/state.hpp"

namespace sluice::emulation {
namespace {

constexpr uint32_t kMostRank = 5;
constexpr uint32_t kUnit = 16; ///< bytes that a swizzle moves as one
constexpr uint32_t kElement = 2;

/** What a tensor map holds, in emulation. */
struct Tensor {
  uint64_t data;
  uint32_t dims[kMostRank];
  uint64_t strides[kMostRank]; ///< bytes
  uint16_t box[kMostRank];
  uint8_t steps[kMostRank];
  uint8_t rank, swizzle;

  uint32_t count(uint32_t i) const { return (box[i] + steps[i] - 1u) / steps[i]; }
};
static_assert(sizeof(Tensor) <= sizeof(CUtensorMap));

struct Copy {
  Tensor tensor;
  int32_t at[kMostRank];
  uint32_t to, bytes;
  BarrierPhase phase;
  bool landed = false;
  uint32_t known = 0; ///< to all threads of a group, a bit each
  uint32_t thread;
  Site site;
};

struct Copies {
  std::vector<Copy> all;
  std::vector<uint32_t> under_way;
};

thread_local Copies copies;

/** Calls each(destination, address or 0) for every element of a box, in the order of its bytes. */
template <class Each>
void for_elements(const Copy &copy, Each each) {
  const Tensor &t = copy.tensor;
  uint32_t index[kMostRank] = {}, to = copy.to;
  for (;; to += kElement) {
    uint64_t address = t.data;
    bool inside = true;
    for (uint32_t i = 0; i < t.rank; ++i) {
      const int64_t at = copy.at[i] + int64_t(index[i]) * t.steps[i];
      inside &= at >= 0 && at < int64_t(t.dims[i]);
      address += uint64_t(at) * t.strides[i];
    }
    each(to, inside ? address : 0);
    uint32_t i = 0;
    while (i < t.rank && ++index[i] == t.count(i)) index[i++] = 0;
    if (i == t.rank) return;
  }
}

void land(uint32_t number) {
  Copy &copy = copies.all[number];
  const auto swizzle = CUtensorMapSwizzle(copy.tensor.swizzle);
  for_elements(copy, [&](uint32_t to, uint64_t from) {
    uint8_t *const element = shared_bytes(swizzled(swizzle, to));
    if (from)
      std::memcpy(element, reinterpret_cast<const void *>(from), kElement);
    else
      std::memset(element, 0, kElement);
  });
  land_box(copy.to, copy.bytes);
  copy.landed = true;
  barrier_complete(copy.phase, copy.bytes, copy.site);
}

} // namespace

uint32_t swizzled(CUtensorMapSwizzle swizzle, uint32_t address) {
  switch (swizzle) {
    case CU_TENSOR_MAP_SWIZZLE_32B:
      return address ^ (address >> 7 & 1) << 4;
    case CU_TENSOR_MAP_SWIZZLE_128B:
      return address ^ (address >> 7 & 7) << 4;
    default:
      return address;
  }
}

void copy_box(SharedRange to, int64_t offset, const CUtensorMap &map, const int32_t *at,
              uint32_t rank, SharedRange barriers, int64_t barrier, Site site) {
  Copy copy;
  std::memcpy(&copy.tensor, &map, sizeof copy.tensor);
  const Tensor &t = copy.tensor;
  if (t.rank != rank) fault(site, "box: %u coordinates for a tensor of %u", rank, t.rank);
  copy.bytes = kElement;
  for (uint32_t i = 0; i < rank; ++i) copy.at[i] = at[i], copy.bytes *= t.count(i);
  const int64_t begin = int64_t(to.begin) + offset;
  if (begin % 128)
    fault(site, "box: expected an address that is a multiple of 128, got %lld", (long long)begin);
  if (offset < 0 || begin + copy.bytes > to.end)
    fault(site, "out of bounds: a box of bytes %lld to %lld of a shared array of %u bytes",
          (long long)offset, (long long)offset + copy.bytes, to.end - to.begin);
  copy.to = uint32_t(begin), copy.thread = running->current, copy.site = site;
  copy.phase = barrier_of_copy(barriers, barrier, site);
  for_elements(copy, [&](uint32_t element, uint64_t from) {
    // One check serves a unit that is inside as a whole.
    if (from && from % kUnit == 0 && element % kUnit == 0 &&
        copy.at[0] + int64_t(element - copy.to) / kElement % t.box[0] + 8 <= t.dims[0])
      check_global(reinterpret_cast<const void *>(from), kUnit, Access::read, site);
    else if (from && from % kUnit == 0)
      check_global(reinterpret_cast<const void *>(from), kElement, Access::read, site);
  });
  const uint32_t number = uint32_t(copies.all.size());
  begin_box(copy.to, copy.bytes, number, site);
  copies.all.push_back(copy);
  copies.under_way.push_back(number);
}

bool box_is_known(uint32_t copy, uint32_t thread) {
  const Copy &c = copies.all[copy];
  return c.landed && order_phases(thread, c.phase.barrier) > c.phase.phase;
}

bool box_is_known_to_group(uint32_t copy, uint32_t group) {
  // Knowledge only grows: what a whole group knew once is not asked again.
  const uint32_t bit = 1u << group;
  if (copies.all[copy].known & bit) return true;
  for (uint32_t i = 0; i < kGroup; ++i)
    if (!box_is_known(copy, group * kGroup + i)) return false;
  copies.all[copy].known |= bit;
  return true;
}

bool async_step(bool must) {
  std::vector<uint32_t> &under_way = copies.under_way;
  if (under_way.empty()) return false;
  size_t pick = 0;
  if (running->random) {
    // Some blocks see their copies soon, others late.
    const uint64_t rarely = 4 + running->pace * 40;
    const uint64_t drawn = draw();
    if (!must && drawn % rarely) return false;
    pick = drawn / rarely % under_way.size();
  }
  const uint32_t number = under_way[pick];
  under_way.erase(under_way.begin() + int64_t(pick));
  land(number);
  return true;
}

void boxes_block_begin() {
  copies.all.clear();
  copies.under_way.clear();
}

void boxes_block_end() {
  for (uint32_t i = 0; i < copies.all.size(); ++i) {
    bool known = false;
    for (uint32_t thread = 0; thread < running->threads.size() && !known; ++thread)
      known = box_is_known(i, thread);
    if (known) continue;
    running->fault = described(copies.all[i].thread, copies.all[i].site,
                               "a box whose copy begins here is never waited for");
    return;
  }
}

} // namespace sluice::emulation

using namespace sluice::emulation;

CUresult cuTensorMapEncodeTiled(CUtensorMap *map, CUtensorMapDataType, cuuint32_t rank, void *data,
                                const cuuint64_t *dims, const cuuint64_t *strides,
                                const cuuint32_t *box, const cuuint32_t *steps,
                                CUtensorMapInterleave, CUtensorMapSwizzle swizzle,
                                CUtensorMapL2promotion, CUtensorMapFloatOOBfill) {
  const uint32_t widest = swizzle == CU_TENSOR_MAP_SWIZZLE_32B ? 32 : 128;
  if (uint64_t(map) % 64 || uint64_t(data) % kUnit || rank < 1 || rank > kMostRank ||
      box[0] * kElement % kUnit || box[0] * kElement > widest)
    return CUDA_ERROR_INVALID_VALUE;
  Tensor t = {};
  t.data = uint64_t(data), t.rank = uint8_t(rank), t.swizzle = uint8_t(swizzle);
  for (uint32_t i = 0; i < rank; ++i) {
    const uint64_t stride = i ? strides[i - 1] : kElement;
    if (dims[i] < 1 || dims[i] >= uint64_t(1) << 32 || box[i] < 1 || box[i] > 256 || steps[i] < 1 ||
        steps[i] > 8 || (i && (stride % kUnit || stride == 0 || stride >= uint64_t(1) << 40)))
      return CUDA_ERROR_INVALID_VALUE;
    t.dims[i] = uint32_t(dims[i]), t.strides[i] = stride;
    t.box[i] = uint16_t(box[i]), t.steps[i] = i ? uint8_t(steps[i]) : 1;
  }
  std::memset(map, 0, sizeof *map);
  std::memcpy(map, &t, sizeof t);
  return CUDA_SUCCESS;
}
