/** @file The emulated half of ptx_hopper.hpp. */
#pragma once

#include "emulation/barriers.hpp"
#include "emulation/boxes.hpp"
#include "emulation/order.hpp"
#include "emulation/products.hpp"

#define SLUICE_MAP const ::sluice::cuda::TensorMap

namespace sluice::cuda::ptx {

// ------------------------------------------------------------------------------------------------
// Barriers

using Barriers = Shared<uint64_t>;

inline void barrier_init(Barriers b, int32_t i, uint32_t count, Site site = Site::current()) {
  emulation::barrier_init(b.range, b.byte(i), count, site);
}
inline void barrier_arrive(Barriers b, int32_t i, Site site = Site::current()) {
  emulation::barrier_arrive(b.range, b.byte(i), 0, site);
}
inline void barrier_expect(Barriers b, int32_t i, uint32_t bytes, Site site = Site::current()) {
  emulation::barrier_arrive(b.range, b.byte(i), bytes, site);
}
inline void barrier_wait(Barriers b, int32_t i, uint32_t parity, Site site = Site::current()) {
  emulation::barrier_wait(b.range, b.byte(i), parity, site);
}
inline void async_fence() { emulation::order_fence(emulation::thread_index()); }
inline void group_sync(int32_t id, int32_t threads, Site site = Site::current()) {
  emulation::named_sync(id, threads, site);
}

// ------------------------------------------------------------------------------------------------
// Copies of boxes

template <class T>
void load_box(Shared<T> to, int32_t i, const TensorMap &map, int32_t x, int32_t y, int32_t z,
              Barriers b, int32_t barrier, Site site = Site::current()) {
  const int32_t at[] = {x, y, z};
  emulation::copy_box(to.range, to.byte(i), map, at, 3, b.range, b.byte(barrier), site);
}
template <class T>
void load_box(Shared<T> to, int32_t i, const TensorMap &map, int32_t x, int32_t y, int32_t z,
              int32_t w, Barriers b, int32_t barrier, Site site = Site::current()) {
  const int32_t at[] = {x, y, z, w};
  emulation::copy_box(to.range, to.byte(i), map, at, 4, b.range, b.byte(barrier), site);
}

// ------------------------------------------------------------------------------------------------
// Registers

template <int kCount>
void give_registers(Site site = Site::current()) {
  emulation::set_registers(kCount, false, site);
}
template <int kCount>
void take_registers(Site site = Site::current()) {
  emulation::set_registers(kCount, true, site);
}

// ------------------------------------------------------------------------------------------------
// Products

template <class T>
uint64_t matrix_at(uint64_t form, Shared<T> s, int32_t i) {
  return form | (uint64_t(s.range.begin + s.byte(i)) >> 4 & 0x3fff);
}
inline void product_fence(Site site = Site::current()) { emulation::product_fence(site); }
inline void product_commit(Site site = Site::current()) { emulation::product_commit(site); }
template <int kLeft>
void product_wait(Site site = Site::current()) {
  emulation::product_wait(kLeft, site);
}
template <int N>
void product_end(float (&)[N]) {} // sums hold no number before the wait
template <class T, int N>
void product_add(float (&c)[N / 2], uint64_t a, uint64_t b, Site site = Site::current()) {
  emulation::ProductDeposit mine{c, a, b, N, [](uint16_t bits) { return widen(T{bits}); }, site};
  emulation::product_add(mine, site);
}

} // namespace sluice::cuda::ptx
