#include "emulation/machine.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "emulation/barriers.hpp"
#include "emulation/boxes.hpp"
#include "emulation/order.hpp"
#include "emulation/products.hpp"
#include "emulation/state.hpp"

namespace sluice::emulation {

thread_local Block *running = nullptr;

namespace {

constexpr size_t kStackBytes = 96 * 1024;
/** Stacks begin at different cache sets, or every switch would evict the last thread's frames. */
constexpr size_t kStackStagger = 448;
constexpr uint32_t kMaxThreads = 1024;
constexpr uint32_t kStackMark = 0x5afe57ac;

/** Stacks of one OS thread, mapped once; pages that no kernel reaches cost nothing. */
struct Stacks {
  uint8_t *data;
  Stacks() {
    void *const mapped = mmap(nullptr, kMaxThreads * kStackBytes, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    data = mapped == MAP_FAILED ? nullptr : static_cast<uint8_t *>(mapped);
  }
  ~Stacks() {
    if (data) munmap(data, kMaxThreads * kStackBytes);
  }
  uint8_t *at(uint32_t thread) const { return data + thread * kStackBytes; }
};

thread_local Counts the_counts;

uint64_t schedule_seed() {
  const char *const text = std::getenv("SLUICE_EMULATION_SEED");
  return text ? std::strtoull(text, nullptr, 10) : 0;
}

uint64_t next_random(uint64_t &state) { // xorshift64
  state ^= state << 13, state ^= state >> 7, state ^= state << 17;
  return state;
}

const char *name_of(Meeting meeting) {
  switch (meeting) {
    case Meeting::none:
      return "nothing";
    case Meeting::block_sync:
      return "the block's barrier";
    case Meeting::warp_sync:
      return "the warp's barrier";
    case Meeting::shuffle:
      return "a shuffle";
    case Meeting::vote:
      return "a vote";
    case Meeting::load_matrix:
      return "ldmatrix";
    case Meeting::mma:
      return "mma";
    case Meeting::product:
      return "wgmma";
    case Meeting::product_fence:
      return "wgmma.fence";
    case Meeting::product_commit:
      return "wgmma.commit_group";
    case Meeting::product_wait:
      return "wgmma.wait_group";
    case Meeting::give_registers:
      return "setmaxnreg.dec";
    case Meeting::take_registers:
      return "setmaxnreg.inc";
    case Meeting::barrier:
      return "a phase of a barrier in shared memory";
    case Meeting::named_sync:
      return "a numbered barrier";
  }
  return "?";
}

const char *base_name(const char *path) {
  const char *const slash = std::strrchr(path, '/');
  return slash ? slash + 1 : path;
}

bool same_place(const Site &a, const Site &b) {
  return a.line() == b.line() && a.column() == b.column() &&
         std::strcmp(a.file_name(), b.file_name()) == 0;
}

/** Threads whose wait is over can run. */
void wake() {
  Block &b = *running;
  if (!b.changed) return;
  b.changed = false;
  size_t kept = 0;
  for (size_t i = 0; i < b.waiting.size(); ++i) {
    if (b.waiting[i].is_over())
      free_thread(b.waiting[i].thread);
    else if (kept++ != i)
      b.waiting[kept - 1] = std::move(b.waiting[i]);
  }
  b.waiting.resize(kept);
}

/** Runs the next thread that can: in order, or drawn where there is a seed. */
void run_next() {
  Block &b = *running;
  Fiber &from = b.threads[b.current].fiber;
  if (b.random) async_step(false);
  wake();
  while (b.ready.empty() && b.done < b.threads.size() && async_step(true)) wake();
  if (b.ready.empty()) {
    if (b.done < b.threads.size()) {
      for (const Thread &t : b.threads) {
        if (t.done) continue;
        fault(t.site, "deadlock: thread %u waits for %s and nothing can run", t.index,
              name_of(t.waits));
      }
    }
    fiber_switch(from, b.scheduler);
    return;
  }
  size_t pick = b.ready.size() - 1; // the list is kept in descending order when there is no seed
  if (b.random) {
    pick = next_random(b.random) % b.ready.size();
    std::swap(b.ready[pick], b.ready.back());
  }
  const uint32_t next = b.ready.back();
  b.ready.pop_back();
  if (next == b.current) return;
  b.current = next;
  fiber_switch(from, b.threads[next].fiber);
}

void thread_main(void *argument) {
  Thread &self = *static_cast<Thread *>(argument);
  (*running->body)();
  Block &b = *running;
  self.done = true;
  ++b.done;
  const auto check_team = [&](const auto &team, const char *name) {
    if (team.arrived)
      fault(team.site, "divergence: thread %u ends while its %s waits for %s", self.index, name,
            name_of(team.meeting));
  };
  check_team(b.warps[self.index / kWarp], "warp");
  if (self.index / kGroup < b.groups.size())
    check_team(b.groups[self.index / kGroup], "group of warps");
  if (b.arrived)
    fault(b.barrier_site, "divergence: thread %u ends while others wait for the block's barrier",
          self.index);
  run_next();
  std::abort(); // a thread that is done is never entered again
}

void run_block(Block &b, const Stacks &stacks) {
  const uint32_t n = b.shape.threads;
  for (uint32_t i = 0; i < n; ++i) {
    Thread &t = b.threads[i];
    t.index = i, t.done = false, t.waits = Meeting::none;
    uint8_t *const stack = stacks.at(i);
    std::memcpy(stack, &kStackMark, sizeof kStackMark);
    fiber_start(t.fiber, stack, kStackBytes - (i % 64) * kStackStagger, thread_main, &t);
  }
  for (Warp &w : b.warps) w = Warp{};
  for (Group &g : b.groups) g = Group{};
  b.arrived = b.done = b.epoch = 0;
  b.ready.clear();
  b.waiting.clear();
  b.changed = false;
  for (uint32_t i = n; i-- > 1;) b.ready.push_back(i);
  memory_block_begin(b.shape.shared_bytes);
  order_block_begin();
  barriers_block_begin();
  boxes_block_begin();
  products_block_begin();
  b.current = 0;
  b.pace = uint32_t(draw() % 8);
  if (b.random) { // another thread than the first begins
    b.ready.push_back(0);
    const size_t pick = next_random(b.random) % n;
    std::swap(b.ready[pick], b.ready.back());
    b.current = b.ready.back();
    b.ready.pop_back();
  }
  fiber_switch(b.scheduler, b.threads[b.current].fiber);
  if (!b.fault.empty()) return;
  memory_block_end();
  if (b.fault.empty()) barriers_block_end();
  if (b.fault.empty()) boxes_block_end();
  if (b.fault.empty()) products_block_end();
  for (uint32_t i = 0; i < n; ++i) {
    uint32_t mark;
    std::memcpy(&mark, stacks.at(i), sizeof mark);
    if (mark != kStackMark) {
      std::fprintf(stderr, "sluice: an emulated thread of %s overran its stack\n", b.kernel);
      std::abort();
    }
  }
}

std::string broken_limit(const Shape &s) {
  const Limits most = limits();
  const auto say = [](const char *what, uint64_t value, uint64_t limit) {
    return "launch: expected " + std::string(what) + " of 1 to " + std::to_string(limit) +
           ", got " + std::to_string(value);
  };
  if (s.grid.x < 1 || s.grid.x > 0x7fffffffu) return say("grid.x", s.grid.x, 0x7fffffffu);
  if (s.grid.y < 1 || s.grid.y > 65535) return say("grid.y", s.grid.y, 65535);
  if (s.grid.z < 1 || s.grid.z > 65535) return say("grid.z", s.grid.z, 65535);
  if (s.threads < 1 || s.threads > kMaxThreads) return say("threads", s.threads, kMaxThreads);
  if (s.threads % kWarp) return "launch: expected whole warps, got " + std::to_string(s.threads);
  if (s.shared_bytes > most.shared_bytes)
    return say("shared bytes", s.shared_bytes, most.shared_bytes);
  return {};
}

} // namespace

Limits limits() {
  static const int32_t architecture = [] {
    const char *const text = std::getenv("SLUICE_EMULATION_ARCH");
    return text ? std::atoi(text) : 90;
  }();
  const uint32_t kib = architecture < 80                           ? 64
                       : architecture == 80                        ? 163
                       : architecture == 90 || architecture == 100 ? 227
                                                                   : 99;
  return {architecture, kib * 1024};
}

Counts &counts() { return the_counts; }

std::set<const void *> &launched() {
  static thread_local std::set<const void *> kernels;
  return kernels;
}

std::string &last_fault() {
  static thread_local std::string fault;
  return fault;
}

const Place &place() {
  static thread_local Place p;
  const Block &b = *running;
  p.thread = {b.current, 0, 0};
  p.block = b.index;
  p.block_size = {b.shape.threads, 1, 1};
  p.grid_size = b.shape.grid;
  return p;
}

uint32_t lane() { return running->current % kWarp; }

uint32_t thread_index() { return running->current; }

void block_sync(Site site) {
  Block &b = *running;
  Thread &self = b.threads[b.current];
  if (b.done)
    fault(site, "divergence: thread %u waits for the block's barrier and %u threads have ended",
          self.index, b.done);
  if (b.arrived == 0)
    b.barrier_site = site;
  else if (!same_place(b.barrier_site, site))
    fault(site, "divergence: thread %u is at this barrier while another is at %s:%u", self.index,
          base_name(b.barrier_site.file_name()), b.barrier_site.line());
  self.waits = Meeting::block_sync, self.site = site;
  if (++b.arrived < b.threads.size()) {
    run_next();
    return;
  }
  b.arrived = 0;
  ++b.epoch;
  order_meet(0, uint32_t(b.threads.size()));
  self.waits = Meeting::none;
  for (uint32_t i = uint32_t(b.threads.size()); i-- > 0;)
    if (i != b.current) free_thread(i);
}

namespace {

template <uint32_t kThreads>
void meet_team(Team<kThreads> &team, const char *name, Meeting meeting, void *deposit,
               void (*act)(void *, void *const *), void *context, Site site) {
  Block &b = *running;
  Thread &self = b.threads[b.current];
  const uint32_t first = self.index / kThreads * kThreads;
  if (team.arrived == 0) {
    team.meeting = meeting, team.site = site;
    for (uint32_t i = 0; i < kThreads; ++i)
      if (b.threads[first + i].done)
        fault(site, "divergence: thread %u is at %s and thread %u of its %s has ended", self.index,
              name_of(meeting), first + i, name);
  } else if (team.meeting != meeting || !same_place(team.site, site)) {
    fault(site, "divergence: thread %u is at %s while its %s waits for %s at %s:%u", self.index,
          name_of(meeting), name, name_of(team.meeting), base_name(team.site.file_name()),
          team.site.line());
  }
  team.deposits[self.index % kThreads] = deposit;
  self.waits = meeting, self.site = site;
  if (++team.arrived < kThreads) {
    run_next();
    return;
  }
  team.arrived = 0;
  if (act) act(context, team.deposits);
  if (meeting == Meeting::warp_sync) {
    ++team.epoch;
    order_meet(first, kThreads);
  }
  self.waits = Meeting::none;
  for (uint32_t i = kThreads; i-- > 0;)
    if (first + i != b.current) free_thread(first + i);
}

} // namespace

void meet(Meeting meeting, void *deposit, void (*act)(void *, void *const *), void *context,
          Site site) {
  meet_team(running->warps[running->current / kWarp], "warp", meeting, deposit, act, context, site);
}

void meet_group(Meeting meeting, void *deposit, void (*act)(void *, void *const *), void *context,
                Site site) {
  const uint32_t group = running->current / kGroup;
  if (group >= running->groups.size())
    fault(site, "divergence: thread %u is at %s outside every group of four warps",
          running->current, name_of(meeting));
  meet_team(running->groups[group], "group of warps", meeting, deposit, act, context, site);
}

void block_thread(Meeting meeting, Site site) {
  Thread &self = running->threads[running->current];
  self.waits = meeting, self.site = site;
  run_next();
}

void free_thread(uint32_t thread) {
  running->threads[thread].waits = Meeting::none;
  running->ready.push_back(thread);
}

void wait_until(Meeting meeting, std::function<bool()> is_over, Site site) {
  if (is_over()) return;
  running->waiting.push_back({running->current, std::move(is_over)});
  block_thread(meeting, site);
}

uint64_t draw() { return running->random ? next_random(running->random) : 0; }

std::string described(uint32_t thread, Site site, const char *what) {
  const Block &b = *running;
  char where[256];
  std::snprintf(where, sizeof where, "%s, block (%u, %u, %u), thread %u, %s:%u: ", b.kernel,
                b.index.x, b.index.y, b.index.z, thread, base_name(site.file_name()), site.line());
  return std::string(where) + what;
}

void fault(Site site, const char *format, ...) {
  Block &b = *running;
  char text[512];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  b.fault = described(b.current, site, text);
  fiber_switch(b.threads[b.current].fiber, b.scheduler);
  std::abort(); // the block is given up
}

std::string run_grid(const char *kernel, const Shape &shape, const std::function<void()> &body) {
  static thread_local Stacks stacks;
  static thread_local Block block;
  if (std::string broken = broken_limit(shape); !broken.empty()) return broken;
  if (!stacks.data) return "launch: expected memory for the stacks of threads, got none";
  const uint64_t seed = schedule_seed();
  block.kernel = kernel;
  block.shape = shape;
  block.body = &body;
  block.fault.clear();
  block.random = seed * 0x9e3779b97f4a7c15ull;
  block.threads.resize(shape.threads);
  block.warps.resize(shape.threads / kWarp);
  block.groups.resize(shape.threads / kGroup);
  running = &block;
  the_counts = {};
  memory_launch_begin();
  const uint64_t blocks = uint64_t(shape.grid.x) * shape.grid.y * shape.grid.z;
  for (uint64_t i = 0; i < blocks && block.fault.empty(); ++i) {
    const uint64_t at = seed % 2 ? blocks - 1 - i : i; // odd seeds: the last block first
    block.flat_index = at;
    block.index = {uint32_t(at % shape.grid.x), uint32_t(at / shape.grid.x % shape.grid.y),
                   uint32_t(at / shape.grid.x / shape.grid.y)};
    run_block(block, stacks);
  }
  running = nullptr;
  return block.fault;
}

} // namespace sluice::emulation
