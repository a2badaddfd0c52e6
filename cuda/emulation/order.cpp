#include "emulation/order.hpp"

#include <algorithm>
#include <numeric>

#include "emulation/state.hpp"

namespace sluice::emulation {
namespace {

struct Order {
  bool counts = false;
  std::vector<Knowledge> known;
  std::vector<uint32_t> time;
  std::vector<std::vector<uint32_t>> fences; ///< a thread's times of its fences
};

thread_local Order order;

void merge(Knowledge &to, const Knowledge &from) {
  to.resize(from.size());
  for (size_t i = 0; i < from.size(); ++i) to[i] = std::max(to[i], from[i]);
}

} // namespace

void order_block_begin() { order.counts = false; }

void order_begin() {
  if (order.counts) return;
  const size_t threads = running->threads.size();
  order.counts = true;
  order.known.resize(threads);
  for (Knowledge &known : order.known) known.assign(threads + kMostBarriers, 0);
  order.time.assign(threads, kFirstTime);
  order.fences.assign(threads, {});
}

uint32_t order_now(uint32_t thread) { return order.counts ? order.time[thread] : kFirstTime; }

bool order_knows(uint32_t thread, uint32_t other, uint32_t time) {
  return order.counts && (thread == other || order.known[thread][other] >= time);
}

void order_tell(uint32_t thread, Knowledge &to) {
  order.known[thread][thread] = order.time[thread]++;
  merge(to, order.known[thread]);
}

void order_learn(uint32_t thread, const Knowledge &from) {
  if (!from.empty()) merge(order.known[thread], from);
}

void order_meet(const std::vector<uint32_t> &threads) {
  if (!order.counts) return;
  Knowledge all;
  for (const uint32_t thread : threads) order_tell(thread, all);
  for (const uint32_t thread : threads) order.known[thread] = all;
}

void order_meet(uint32_t first, uint32_t count) {
  if (!order.counts) return;
  std::vector<uint32_t> threads(count);
  std::iota(threads.begin(), threads.end(), first);
  order_meet(threads);
}

uint32_t order_phases(uint32_t thread, uint32_t barrier) {
  return order.known[thread][order.time.size() + barrier];
}

void order_know_phases(uint32_t thread, uint32_t barrier, uint32_t phases) {
  uint32_t &known = order.known[thread][order.time.size() + barrier];
  known = std::max(known, phases);
}

void order_fence(uint32_t thread) {
  order_begin();
  order.fences[thread].push_back(order.time[thread]);
}

uint32_t order_fences(uint32_t thread) {
  return order.counts ? uint32_t(order.fences[thread].size()) : 0;
}

bool order_knows_fence(uint32_t thread, uint32_t writer, uint32_t fences) {
  return order.counts && fences < order.fences[writer].size() &&
         order_knows(thread, writer, order.fences[writer][fences]);
}

} // namespace sluice::emulation
