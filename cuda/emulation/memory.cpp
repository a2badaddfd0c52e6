#include "emulation/memory.hpp"

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <unordered_map>

#include "emulation/boxes.hpp"
#include "emulation/order.hpp"
#include "emulation/products.hpp"
#include "emulation/state.hpp"

namespace sluice::emulation {
namespace {

constexpr uint32_t kGranule = 2; // bytes that are watched as one
constexpr int16_t kNobody = -1;
constexpr int16_t kSeveral = -2;      // threads of one warp
constexpr int16_t kSeveralWarps = -3; // threads of more than one warp

/** The last write of a granule and the reads since then. Epochs count barriers passed. */
struct Cell {
  uint32_t life = 0; ///< of the block or launch that these marks are from
  int16_t writer = kNobody, reader = kNobody;
  uint16_t writer_warp = 0, reader_warp = 0;
  uint32_t write_block_epoch = 0, write_warp_epoch = 0;
  uint32_t read_block_epoch = 0, read_warp_epoch = 0;
  uint64_t block = 0; ///< of the last accesses, in device memory
  uint32_t write_time = kFirstTime, read_time = kFirstTime; ///< the threads' own
  uint32_t write_fences = 0;                                ///< that the writer had passed
  uint32_t box = 0;         ///< copy of a box that wrote it, and one more; 0: a thread did
  int16_t copier = kNobody; ///< thread whose asynchronous copy is under way
  bool initialised = false;
  bool warp_wide = false; ///< the write or read that is marked counts for a whole warp
};

struct Self {
  int16_t thread;
  uint16_t warp;
  uint32_t block_epoch, warp_epoch;
};

Self self() {
  const Block &b = *running;
  const uint32_t warp = b.current / kWarp;
  return {int16_t(b.current), uint16_t(warp), b.epoch, b.warps[warp].epoch};
}

bool after_write(const Cell &c, const Self &s, bool whole_warp) {
  if (c.write_block_epoch < s.block_epoch) return true;
  if (c.writer == s.thread && !whole_warp) return true;
  if (!whole_warp && order_knows(s.thread, c.writer, c.write_time)) return true;
  return c.writer_warp == s.warp && c.write_warp_epoch < s.warp_epoch;
}

bool after_reads(const Cell &c, const Self &s) {
  if (c.reader == kNobody || c.read_block_epoch < s.block_epoch || c.reader == s.thread)
    return true;
  if (c.reader >= 0 && order_knows(s.thread, c.reader, c.read_time)) return true;
  return c.reader != kSeveralWarps && c.reader_warp == s.warp && c.read_warp_epoch < s.warp_epoch;
}

void mark_read(Cell &c, const Self &s, bool whole_warp) {
  const bool older = c.reader == kNobody || c.read_block_epoch < s.block_epoch;
  const int16_t me = whole_warp ? kSeveral : s.thread;
  if (older) {
    c.reader = me, c.reader_warp = s.warp;
  } else if (c.reader_warp != s.warp || c.reader == kSeveralWarps) {
    c.reader = kSeveralWarps;
  } else if (c.read_warp_epoch < s.warp_epoch) {
    c.reader = me;
  } else if (c.reader != me) {
    c.reader = kSeveral;
  }
  c.read_block_epoch = std::max(c.read_block_epoch, s.block_epoch);
  c.read_warp_epoch = s.warp_epoch;
  c.read_time = order_now(s.thread);
}

void mark_write(Cell &c, const Self &s) {
  c.writer = s.thread, c.writer_warp = s.warp;
  c.write_block_epoch = s.block_epoch, c.write_warp_epoch = s.warp_epoch;
  c.write_time = order_now(s.thread), c.write_fences = order_fences(s.thread);
  c.box = 0;
  c.reader = kNobody, c.read_block_epoch = 0;
}

// ------------------------------------------------------------------------------------------------

struct Copy {
  uint32_t at;
  uint32_t group;
  uint8_t data[16];
  Site site;
};

struct Copies {
  std::vector<Copy> pending;
  uint32_t group = 0; ///< that the next copy belongs to
};

/** The shared memory of the block that runs on this OS thread. */
struct SharedMemory {
  std::vector<uint8_t> bytes;
  std::vector<Cell> cells;
  std::vector<std::pair<const void *, SharedRange>> arrays;
  std::vector<Copies> copies; ///< by thread
  uint32_t dynamic_bytes = 0, used = 0, life = 0;

  void grow(uint32_t size) {
    if (bytes.size() >= size) return;
    bytes.resize(size);
    cells.resize(size / kGranule);
  }
};

thread_local SharedMemory shared;

/** Watches device memory that one launch writes; pages by address. */
struct GlobalWatch {
  static constexpr uint64_t kPage = 4096;
  std::unordered_map<uint64_t, std::unique_ptr<Cell[]>> pages;
  uint64_t last_page = ~uint64_t(0);
  Cell *last = nullptr;
  uint32_t life = 0;

  Cell &cell(uint64_t address) {
    const uint64_t page = address / kPage;
    if (page != last_page) {
      auto &cells = pages[page];
      if (!cells) cells = std::make_unique<Cell[]>(kPage / kGranule);
      last_page = page, last = cells.get();
    }
    Cell &c = last[address % kPage / kGranule];
    if (c.life != life) c = Cell{}, c.life = life;
    return c;
  }
};

thread_local GlobalWatch watch;

thread_local std::vector<Claimed> claims;

std::mutex allocations_lock;
std::map<uint64_t, uint64_t> allocations; // begin → end

bool is_allocated(uint64_t begin, uint64_t end) {
  const std::lock_guard guard(allocations_lock);
  auto next = allocations.upper_bound(begin);
  if (next == allocations.begin()) return false;
  --next;
  return end <= next->second;
}

} // namespace

void add_allocation(const void *address, uint64_t bytes) {
  const std::lock_guard guard(allocations_lock);
  allocations[uint64_t(address)] = uint64_t(address) + bytes;
}

void remove_allocation(const void *address) {
  const std::lock_guard guard(allocations_lock);
  allocations.erase(uint64_t(address));
}

void claim(const void *address, uint64_t bytes, bool written) {
  claims.push_back({uint64_t(address), uint64_t(address) + bytes, written});
}

void claim_flag(const void *address, uint64_t bytes) {
  claims.push_back({uint64_t(address), uint64_t(address) + bytes, true, true});
}

void clear_claims() { claims.clear(); }

const std::vector<Claimed> &claims_now() { return claims; }

ClaimsScope::ClaimsScope(const std::vector<Claimed> &wanted) : before_(wanted) {
  claims.swap(before_);
}

ClaimsScope::~ClaimsScope() { claims.swap(before_); }

void check_global(const void *address, uint32_t bytes, Access access, Site site) {
  const uint64_t begin = uint64_t(address), end = begin + bytes;
  const bool writes = access != Access::read;
  if (begin % bytes)
    fault(site, "device memory: expected an address that is a multiple of %u, got %p", bytes,
          address);
  if (claims.empty()) {
    if (!is_allocated(begin, end))
      fault(site, "out of bounds: %u bytes at %p are in no allocation", bytes, address);
    return;
  }
  bool found = false, watched = false;
  for (const Claimed &c : claims) {
    if (begin < c.begin || end > c.end) continue;
    found |= !writes || c.written;
    watched |= c.written;
  }
  if (!found) {
    uint64_t near = 0, distance = ~uint64_t(0);
    for (size_t i = 0; i < claims.size(); ++i) {
      const uint64_t d = begin < claims[i].begin  ? claims[i].begin - begin
                         : begin >= claims[i].end ? begin - claims[i].end
                                                  : 0;
      if (d < distance) distance = d, near = i;
    }
    fault(site, "out of bounds: a %s of %u bytes %llu bytes away from operand %llu (%llu bytes)",
          writes ? "write" : "read", bytes, (unsigned long long)distance, (unsigned long long)near,
          (unsigned long long)(claims[near].end - claims[near].begin));
  }
  if (!watched || access == Access::atomic) return;
  const Self me = self();
  const uint64_t block = running->flat_index;
  for (uint64_t at = begin; at < end; at += kGranule) {
    Cell &c = watch.cell(at);
    const bool other_block = c.block != block && (c.writer != kNobody || c.reader != kNobody);
    if (writes) {
      if (c.writer != kNobody && (other_block || !after_write(c, me, false)))
        fault(site, "race: written by thread %d of block %llu as well", c.writer,
              (unsigned long long)c.block);
      if (c.reader != kNobody && (other_block || !after_reads(c, me)))
        fault(site, "race: written while a thread of block %llu reads it",
              (unsigned long long)c.block);
      mark_write(c, me);
    } else {
      if (c.writer != kNobody && (other_block || !after_write(c, me, false)))
        fault(site, "race: read while thread %d of block %llu writes it", c.writer,
              (unsigned long long)c.block);
      // No barrier comes after readers of several blocks.
      if (other_block && c.reader != kNobody)
        c.reader = kSeveralWarps, c.read_block_epoch = ~0u;
      else
        mark_read(c, me, false);
    }
    c.block = block;
  }
}

// ------------------------------------------------------------------------------------------------

void memory_launch_begin() { ++watch.life; }

void memory_block_begin(uint32_t dynamic_bytes) {
  shared.dynamic_bytes = dynamic_bytes;
  shared.used = (dynamic_bytes + 127) / 128 * 128;
  shared.grow(shared.used);
  shared.arrays.clear();
  shared.copies.resize(running->threads.size());
  for (Copies &c : shared.copies) c.pending.clear(), c.group = 0;
  ++shared.life;
}

void memory_block_end() {
  for (size_t i = 0; i < shared.copies.size(); ++i) {
    if (shared.copies[i].pending.empty()) continue;
    running->fault =
        described(uint32_t(i), shared.copies[i].pending.front().site,
                  "an asynchronous copy that begins here is never waited for by its thread");
    return;
  }
}

SharedRange static_shared(const void *key, uint32_t bytes) {
  for (const auto &[k, range] : shared.arrays)
    if (k == key) return range;
  const uint32_t begin = shared.used;
  shared.used += (bytes + 127) / 128 * 128;
  if (shared.used > limits().shared_bytes)
    fault(Site::current(), "launch: expected at most %u bytes of shared memory, got %u",
          limits().shared_bytes, shared.used);
  shared.grow(shared.used);
  const SharedRange range{begin, begin + bytes};
  shared.arrays.push_back({key, range});
  return range;
}

SharedRange dynamic_shared(uint32_t offset, uint32_t bytes, Site site) {
  if (uint64_t(offset) + bytes > shared.dynamic_bytes)
    fault(site, "out of bounds: shared bytes [%u, %llu) of %u", offset,
          (unsigned long long)offset + bytes, shared.dynamic_bytes);
  return {offset, offset + bytes};
}

uint8_t *shared_access(SharedRange range, int64_t offset, uint32_t bytes, Access access, Site site,
                       bool whole_warp) {
  const int64_t begin = int64_t(range.begin) + offset;
  if (offset < 0 || begin + bytes > range.end)
    fault(site, "out of bounds: bytes %lld to %lld of a shared array of %u bytes",
          (long long)offset, (long long)offset + bytes, range.end - range.begin);
  if (begin % bytes)
    fault(site, "shared memory: expected an address that is a multiple of %u, got %lld", bytes,
          (long long)begin);
  if (access != Access::read) check_product_reads_end(uint32_t(begin), bytes, site);
  const Self me = self();
  const uint32_t step = bytes < kGranule ? kGranule : bytes;
  Cell *const cells = shared.cells.data() + begin / kGranule;
  for (uint32_t i = 0; i < step / kGranule; ++i) {
    Cell &c = cells[i];
    if (c.life != shared.life) c = Cell{}, c.life = shared.life;
    if (c.copier != kNobody)
      fault(site, "shared byte %lld is %s while thread %d copies to it: no wait between",
            (long long)begin, access == Access::read ? "read" : "written", c.copier);
    if (c.box && !box_is_known(c.box - 1, running->current))
      fault(site, "shared byte %lld is %s while a box is copied to it: no wait for its barrier",
            (long long)begin, access == Access::read ? "read" : "written");
    if (access == Access::atomic) {
      if (!c.initialised)
        fault(site, "shared byte %lld is read before it is written", (long long)begin);
      continue;
    }
    if (access == Access::read) {
      if (!c.initialised)
        fault(site, "shared byte %lld is read before it is written", (long long)begin);
      if (!after_write(c, me, whole_warp))
        fault(site, "race: shared byte %lld is read while thread %d writes it: no barrier between",
              (long long)begin, c.writer);
      mark_read(c, me, whole_warp);
    } else {
      if (c.writer != kNobody && !after_write(c, me, false))
        fault(site, "race: shared byte %lld is written by thread %d as well: no barrier between",
              (long long)begin, c.writer);
      if (!after_reads(c, me))
        fault(site, "race: shared byte %lld is written while it is read: no barrier between",
              (long long)begin);
      mark_write(c, me);
      c.initialised = true;
    }
  }
  return shared.bytes.data() + begin;
}

void async_copy(SharedRange range, int64_t offset, const void *from, Site site) {
  if (from) check_global(from, 16, Access::read, site);
  uint8_t *const to = shared_access(range, offset, 16, Access::write, site);
  Copy copy{uint32_t(to - shared.bytes.data()), 0, {}, site};
  if (from) std::memcpy(copy.data, from, 16);
  Copies &mine = shared.copies[running->current];
  copy.group = mine.group;
  mine.pending.push_back(copy);
  std::memset(to, 0xff, 16); // not a number in every float type until the wait
  for (uint32_t i = 0; i < 16 / kGranule; ++i)
    shared.cells[copy.at / kGranule + i].copier = int16_t(running->current);
}

void async_commit() { ++shared.copies[running->current].group; }

void async_wait(uint32_t left) {
  Copies &mine = shared.copies[running->current];
  const Self me = self();
  size_t kept = 0;
  for (const Copy &copy : mine.pending) {
    if (uint64_t(copy.group) + left >= mine.group) {
      mine.pending[kept++] = copy;
      continue;
    }
    std::memcpy(shared.bytes.data() + copy.at, copy.data, 16);
    for (uint32_t i = 0; i < 16 / kGranule; ++i) {
      Cell &c = shared.cells[copy.at / kGranule + i];
      c.copier = kNobody;
      mark_write(c, me);
    }
  }
  mine.pending.resize(kept, Copy{});
}

uint32_t shared_offset(const uint8_t *at) { return uint32_t(at - shared.bytes.data()); }

uint32_t shared_size() { return shared.used; }

uint8_t *shared_bytes(uint32_t begin) { return shared.bytes.data() + begin; }

void check_shown(uint32_t at, Site site) {
  const Cell &c = shared.cells[at / kGranule];
  if (c.writer != kNobody &&
      !order_knows_fence(running->current, uint32_t(c.writer), c.write_fences))
    fault(site, "proxy: shared byte %u was written by thread %d: no fence.proxy.async between", at,
          c.writer);
}

void begin_box(uint32_t begin, uint32_t bytes, uint32_t copy, Site site) {
  if (begin + uint64_t(bytes) > shared.used)
    fault(site, "out of bounds: a box of shared bytes [%u, %u) of %u", begin, begin + bytes,
          shared.used);
  check_product_reads_end(begin, bytes, site);
  const Self me = self();
  for (uint32_t at = begin; at < begin + bytes; at += kGranule) {
    Cell &c = shared.cells[at / kGranule];
    if (c.life != shared.life) c = Cell{}, c.life = shared.life;
    if (c.copier != kNobody || (c.box && !box_is_known(c.box - 1, running->current)))
      fault(site, "shared byte %u is written while another copy to it is under way", at);
    if (c.writer != kNobody && !after_write(c, me, false))
      fault(site, "race: shared byte %u is written by thread %d as well: no barrier between", at,
            c.writer);
    if (!after_reads(c, me))
      fault(site, "race: shared byte %u is written while it is read: no barrier between", at);
    if (c.writer != kNobody) check_shown(at, site);
    c = Cell{};
    c.life = shared.life, c.box = copy + 1;
  }
  std::memset(shared.bytes.data() + begin, 0xff, bytes); // not a number until it lands
}

void land_box(uint32_t begin, uint32_t bytes) {
  for (uint32_t at = begin; at < begin + bytes; at += kGranule)
    shared.cells[at / kGranule].initialised = true;
}

void check_product_read(uint32_t begin, uint32_t group, Site site) {
  if (begin + 16 > shared.used)
    fault(site, "out of bounds: wgmma reads shared byte %u of %u", begin, shared.used);
  const uint32_t first = group * kGroup;
  for (uint32_t at = begin; at < begin + 16; at += kGranule) {
    Cell &c = shared.cells[at / kGranule];
    if (c.life != shared.life) c = Cell{}, c.life = shared.life;
    if (c.copier != kNobody)
      fault(site, "shared byte %u is read while thread %d copies to it: no wait between", at,
            c.copier);
    if (c.box) {
      if (!box_is_known_to_group(c.box - 1, group))
        fault(site, "shared byte %u is read while a box is copied to it: no wait for its barrier",
              at);
      return; // boxes are whole units of 16 bytes
    }
    if (!c.initialised) fault(site, "shared byte %u is read before it is written", at);
    for (uint32_t thread = first; thread < first + kGroup; ++thread) {
      const uint32_t warp = thread / kWarp;
      if (!after_write(
              c, {int16_t(thread), uint16_t(warp), running->epoch, running->warps[warp].epoch},
              false))
        fault(site, "race: shared byte %u is read while thread %d writes it: no barrier between",
              at, c.writer);
      if (!order_knows_fence(thread, uint32_t(c.writer), c.write_fences))
        fault(site, "proxy: shared byte %u was written by thread %d: no fence.proxy.async between",
              at, c.writer);
    }
  }
}

void count_banks(const uint32_t *addresses, uint32_t lanes, uint32_t bytes) {
  // Lanes go in groups that together ask for at most 128 bytes; a bank gives one word a cycle.
  const uint32_t group = std::min(lanes, 128 / std::max(bytes, 4u));
  Counts &total = counts();
  for (uint32_t first = 0; first < lanes; first += group) {
    std::vector<uint32_t> words[32];
    for (uint32_t i = first; i < std::min(lanes, first + group); ++i) {
      for (uint32_t w = addresses[i] / 4; w <= (addresses[i] + bytes - 1) / 4; ++w) {
        auto &bank = words[w % 32];
        if (std::find(bank.begin(), bank.end(), w) == bank.end()) bank.push_back(w);
      }
    }
    size_t most = 1;
    for (const auto &bank : words) most = std::max(most, bank.size());
    ++total.shared_requests;
    total.shared_wavefronts += most;
  }
}

} // namespace sluice::emulation
