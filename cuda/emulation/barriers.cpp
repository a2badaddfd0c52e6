#include "emulation/barriers.hpp"

#include "emulation/order.hpp"
#include "emulation/state.hpp"

namespace sluice::emulation {
namespace {

constexpr int32_t kNamed = 16;
constexpr uint32_t kMostRegisters = 65536; ///< of a block

struct Barrier {
  uint32_t address = 0;
  uint32_t count = 0, pending = 0;
  uint32_t phase = 0; ///< phases that have ended
  int64_t bytes = 0;  ///< expected and not landed
  Knowledge arrived;  ///< what those know that have arrived, in all phases
  Knowledge ended[2]; ///< the same when the last phase of each parity ended
};

struct Named {
  int32_t threads = 0;
  Site site;
  std::vector<uint32_t> waiting;
};

struct Barriers {
  std::vector<Barrier> all;
  Named named[kNamed];
  std::vector<uint32_t> registers; ///< a thread of each group
  uint32_t free = 0;
  bool taken = false;
  Site given; ///< where some were given back last
};

thread_local Barriers barriers;

uint32_t find(SharedRange range, int64_t offset, Site site) {
  const uint8_t *const at = shared_access(range, offset, 8, Access::read, site);
  const uint32_t address = shared_offset(at);
  for (uint32_t i = 0; i < barriers.all.size(); ++i)
    if (barriers.all[i].address == address) return i;
  fault(site, "barrier: shared byte %u holds none", address);
}

void end_phase(Barrier &b) {
  if (b.pending || b.bytes) return;
  b.ended[b.phase % 2] = b.arrived;
  ++b.phase;
  b.pending = b.count;
  running->changed = true;
}

} // namespace

void barriers_block_begin() {
  barriers.all.clear();
  for (Named &named : barriers.named) named.threads = 0, named.waiting.clear();
  barriers.registers.clear();
}

void barriers_block_end() {
  if (barriers.registers.empty() || barriers.taken) return;
  running->fault =
      described(0, barriers.given, "registers are given back here and nobody takes them");
}

void barrier_init(SharedRange range, int64_t offset, uint32_t count, Site site) {
  order_begin();
  const uint8_t *const at = shared_access(range, offset, 8, Access::write, site);
  const uint32_t address = shared_offset(at);
  for (const Barrier &b : barriers.all)
    if (b.address == address) fault(site, "barrier: shared byte %u holds one already", address);
  if (barriers.all.size() == kMostBarriers)
    fault(site, "barrier: expected at most %u in a block", kMostBarriers);
  if (count == 0) fault(site, "barrier: expected to count threads, got 0");
  Barrier b;
  b.address = address, b.count = b.pending = count;
  barriers.all.push_back(b);
}

void barrier_arrive(SharedRange range, int64_t offset, uint32_t bytes, Site site) {
  Barrier &b = barriers.all[find(range, offset, site)];
  if (b.pending == 0) fault(site, "barrier: more than %u threads arrive in one phase", b.count);
  order_tell(running->current, b.arrived);
  --b.pending;
  b.bytes += bytes;
  end_phase(b);
}

void barrier_wait(SharedRange range, int64_t offset, uint32_t parity, Site site) {
  const uint32_t number = find(range, offset, site), me = running->current;
  wait_until(
      Meeting::barrier, [number, parity] { return barriers.all[number].phase % 2 != parity % 2; },
      site);
  const Barrier &b = barriers.all[number];
  order_learn(me, b.ended[parity % 2]);
  order_know_phases(me, number, b.phase);
}

BarrierPhase barrier_of_copy(SharedRange range, int64_t offset, Site site) {
  const uint32_t number = find(range, offset, site);
  check_shown(barriers.all[number].address, site);
  return {number, barriers.all[number].phase};
}

void barrier_complete(BarrierPhase copy, uint32_t bytes, Site site) {
  Barrier &b = barriers.all[copy.barrier];
  if (b.phase != copy.phase)
    fault(site, "barrier: a phase ended before %u bytes of this box landed: they were not expected",
          bytes);
  b.bytes -= bytes;
  end_phase(b);
}

void named_sync(int32_t id, int32_t threads, Site site) {
  order_begin();
  const uint32_t me = running->current;
  if (id < 1 || id >= kNamed)
    fault(site, "barrier: expected a number of 1 to %d, got %d", kNamed - 1, id);
  if (threads < 1 || threads % int32_t(kWarp) || threads > int32_t(running->threads.size()))
    fault(site, "barrier: expected whole warps of the block, got %d threads", threads);
  Named &named = barriers.named[id];
  if (named.waiting.empty())
    named.threads = threads, named.site = site;
  else if (named.threads != threads)
    fault(site, "barrier %d: %d threads here, %d at line %u", id, threads, named.threads,
          named.site.line());
  named.waiting.push_back(me);
  if (int32_t(named.waiting.size()) < threads) {
    block_thread(Meeting::named_sync, site);
    return;
  }
  order_meet(named.waiting);
  for (const uint32_t thread : named.waiting)
    if (thread != me) free_thread(thread);
  named.waiting.clear();
}

void set_registers(uint32_t count, bool takes, Site site) {
  const uint32_t group = running->current / kGroup;
  const uint32_t threads = uint32_t(running->threads.size());
  if (barriers.registers.empty()) {
    // As many as one block of this size begins with.
    barriers.registers.assign(threads / kGroup, kMostRegisters / threads / 8 * 8);
    barriers.free = 0, barriers.taken = false;
  }
  struct Wish {
    uint32_t count;
    bool takes;
    Site site;
  } wish{count, takes, site};
  meet_group(
      takes ? Meeting::take_registers : Meeting::give_registers, &wish,
      [](void *context, void *const *deposits) {
        const Wish &w = *static_cast<Wish *>(deposits[0]);
        uint32_t &mine = barriers.registers[*static_cast<uint32_t *>(context)];
        if (w.takes ? w.count < mine : w.count > mine)
          fault(w.site, "registers: expected %s %u a thread, got %u",
                w.takes ? "at least" : "at most", mine, w.count);
        if (w.takes) return;
        barriers.free += (mine - w.count) * kGroup;
        barriers.given = w.site;
        mine = w.count;
        running->changed = true;
      },
      const_cast<uint32_t *>(&group), site);
  if (!takes) return;
  const auto need = [group, count] { return (count - barriers.registers[group]) * kGroup; };
  wait_until(
      Meeting::take_registers, [need] { return need() <= barriers.free; }, site);
  barriers.free -= need();
  barriers.taken = true;
  barriers.registers[group] = count;
}

} // namespace sluice::emulation
