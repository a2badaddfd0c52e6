/** @file The emulated half of launch.hpp: same names, every access and meeting watched. */
#pragma once

#include <cmath>
#include <cstring>
#include <string>
#include <type_traits>

#include "emulation/machine.hpp"
#include "emulation/memory.hpp"
#include "emulation/runtime.hpp"
#include "emulation/stream.hpp"

#define SLUICE_DEVICE inline
#define SLUICE_HOST_DEVICE inline
#define SLUICE_KERNEL(threads, blocks) inline void
#define SLUICE_SHARED(T, name, count)                                                 \
  static const char name##_key = 0;                                                   \
  const ::sluice::cuda::Shared<T> name {                                              \
    ::sluice::emulation::static_shared(&name##_key, uint32_t((count) * sizeof(T))), 0 \
  }

#define threadIdx (::sluice::emulation::place().thread)
#define blockIdx (::sluice::emulation::place().block)
#define blockDim (::sluice::emulation::place().block_size)
#define gridDim (::sluice::emulation::place().grid_size)

namespace sluice::cuda {

using emulation::Access;
using emulation::Site;

template <class T>
struct Global {
  T *data = nullptr;

  bool present() const { return data != nullptr; }
  Global operator+(int64_t n) const { return {data + n}; }
  T load(int64_t i, Site site = Site::current()) const {
    emulation::check_global(data + i, sizeof(T), Access::read, site);
    return data[i];
  }
  template <class U = T>
  requires(!std::is_const_v<U>) void store(int64_t i, U value, Site site = Site::current()) const {
    emulation::check_global(data + i, sizeof(T), Access::write, site);
    data[i] = value;
  }
  template <class V>
  V load_as(int64_t i, Site site = Site::current()) const {
    emulation::check_global(data + i, sizeof(V), Access::read, site);
    V value;
    std::memcpy(&value, data + i, sizeof value);
    return value;
  }
  template <class V>
  void store_as(int64_t i, V value, Site site = Site::current()) const {
    emulation::check_global(data + i, sizeof(V), Access::write, site);
    std::memcpy(static_cast<void *>(data + i), &value, sizeof value);
  }
};

template <class T>
struct Shared {
  emulation::SharedRange range;
  int32_t first = 0; ///< element of the range that element 0 is

  Shared operator+(int32_t n) const { return {range, first + n}; }
  int64_t byte(int32_t i) const { return (int64_t(first) + i) * int64_t(sizeof(T)); }
  T load(int32_t i, Site site = Site::current()) const { return load_as<T>(i, site); }
  void store(int32_t i, T value, Site site = Site::current()) const { store_as<T>(i, value, site); }
  template <class V>
  V load_as(int32_t i, Site site = Site::current()) const {
    V value;
    std::memcpy(&value, emulation::shared_access(range, byte(i), sizeof(V), Access::read, site),
                sizeof value);
    return value;
  }
  template <class V>
  void store_as(int32_t i, V value, Site site = Site::current()) const {
    std::memcpy(emulation::shared_access(range, byte(i), sizeof(V), Access::write, site), &value,
                sizeof value);
  }
};

template <class T>
Shared<T> dynamic_shared(int32_t byte_offset, int32_t count, Site site = Site::current()) {
  return {
      emulation::dynamic_shared(uint32_t(byte_offset), uint32_t(count * int32_t(sizeof(T))), site),
      0};
}

inline void block_sync(Site site = Site::current()) { emulation::block_sync(site); }
inline void warp_sync(Site site = Site::current()) {
  emulation::meet(emulation::Meeting::warp_sync, nullptr, nullptr, nullptr, site);
}

/** What a lane brings to a shuffle and takes away. */
template <class T>
struct ShuffleDeposit {
  T value, result;
  int32_t source; ///< lane; outside the warp: keeps its own value
};

template <class T>
T shuffle_from(T value, int32_t source, Site site) {
  ShuffleDeposit<T> mine{value, value, source};
  emulation::meet(
      emulation::Meeting::shuffle, &mine,
      [](void *, void *const *deposits) {
        for (uint32_t i = 0; i < emulation::kWarp; ++i) {
          auto &d = *static_cast<ShuffleDeposit<T> *>(deposits[i]);
          if (d.source < 0 || d.source >= int32_t(emulation::kWarp)) continue;
          d.result = static_cast<ShuffleDeposit<T> *>(deposits[d.source])->value;
        }
      },
      nullptr, site);
  return mine.result;
}
template <class T>
T shuffle(T value, int32_t lane, Site site = Site::current()) {
  return shuffle_from(value, lane % int32_t(emulation::kWarp), site);
}
template <class T>
T shuffle_xor(T value, int32_t mask, Site site = Site::current()) {
  return shuffle_from(value, int32_t(emulation::lane()) ^ mask, site);
}
template <class T>
T shuffle_down(T value, int32_t delta, Site site = Site::current()) {
  return shuffle_from(value, int32_t(emulation::lane()) + delta, site);
}

struct VoteDeposit {
  bool value, any, all;
};
inline VoteDeposit vote(bool value, Site site) {
  VoteDeposit mine{value, false, false};
  emulation::meet(
      emulation::Meeting::vote, &mine,
      [](void *, void *const *deposits) {
        bool any = false, all = true;
        for (uint32_t i = 0; i < emulation::kWarp; ++i) {
          const bool v = static_cast<VoteDeposit *>(deposits[i])->value;
          any |= v, all &= v;
        }
        for (uint32_t i = 0; i < emulation::kWarp; ++i) {
          auto &d = *static_cast<VoteDeposit *>(deposits[i]);
          d.any = any, d.all = all;
        }
      },
      nullptr, site);
  return mine;
}
inline bool any_lane(bool value, Site site = Site::current()) { return vote(value, site).any; }
inline bool all_lanes(bool value, Site site = Site::current()) { return vote(value, site).all; }

inline int32_t atomic_add(Global<int32_t> g, int64_t i, int32_t value,
                          Site site = Site::current()) {
  emulation::check_global(g.data + i, sizeof(int32_t), Access::atomic, site);
  const int32_t before = g.data[i];
  g.data[i] = before + value;
  return before;
}

using Stream = cudaStream_t;
struct Grid : emulation::Dim3 {
  Grid(uint32_t x_, uint32_t y_ = 1, uint32_t z_ = 1) : emulation::Dim3{x_, y_, z_} {}
};

struct LaunchShape {
  Grid grid;
  uint32_t threads;
  uint32_t shared_bytes = 0; ///< dynamic
};

template <class... P, class... A>
cudaError_t launch(const char *name, void (*kernel)(P...), const LaunchShape &shape, Stream stream,
                   A... arguments) {
  emulation::launched().insert(reinterpret_cast<const void *>(kernel));
  return emulation::launch_kernel(stream, name, {shape.grid, shape.threads, shape.shared_bytes},
                                  [=] { kernel(P(arguments)...); });
}

} // namespace sluice::cuda
