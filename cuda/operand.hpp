/**
 * @file
 * Operands of commands as kernels see them, and arithmetic that several families share. An
 * operand's type is known at run time alone: loads widen to float, stores round to the nearest.
 */
#pragma once

#include "core/commands.h"
#include "ptx.hpp"

namespace sluice::cuda {

struct Operand {
  void *data = nullptr;
  DType dtype = DType::f32;
  int32_t stride_f = 0, stride_h = 0, stride_w = 0;

  SLUICE_HOST_DEVICE bool present() const { return data != nullptr; }
  /** Element 0 of a pixel. */
  SLUICE_HOST_DEVICE int64_t at(int64_t f, int64_t h, int64_t w) const {
    return f * stride_f + h * stride_h + w * stride_w;
  }
  template <class T>
  SLUICE_HOST_DEVICE Global<T> as() const {
    return {static_cast<T *>(data)};
  }
  SLUICE_DEVICE float load(int64_t i) const {
    switch (dtype) {
      case DType::f16:
        return ptx::widen(as<const f16>().load(i));
      case DType::bf16:
        return ptx::widen(as<const bf16>().load(i));
      default:
        return as<const float>().load(i);
    }
  }
  SLUICE_DEVICE void store(int64_t i, float value) const {
    switch (dtype) {
      case DType::f16:
        return as<f16>().store(i, ptx::narrow<f16>(value));
      case DType::bf16:
        return as<bf16>().store(i, ptx::narrow<bf16>(value));
      default:
        return as<float>().store(i, value);
    }
  }
  /** Elements i .. i + 7, at a multiple of 8 elements. */
  SLUICE_DEVICE void load8(float (&out)[8], int64_t i) const {
    if (dtype == DType::f32) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const Floats4 v = as<const float>().load_as<Floats4>(i + 4 * half);
        out[4 * half] = v.x, out[4 * half + 1] = v.y;
        out[4 * half + 2] = v.z, out[4 * half + 3] = v.w;
      }
      return;
    }
    const Words4 v = as<const f16>().load_as<Words4>(i);
    const uint32_t words[4] = {v.x, v.y, v.z, v.w};
    const bool is_f16 = dtype == DType::f16;
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const uint16_t bits = uint16_t(words[j / 2] >> (16 * (j % 2)));
      out[j] = is_f16 ? ptx::widen(f16{bits}) : ptx::widen(bf16{bits});
    }
  }
  SLUICE_DEVICE void store8(int64_t i, const float (&x)[8]) const {
    if (dtype == DType::f32) {
      as<float>().store_as<Floats4>(i, {x[0], x[1], x[2], x[3]});
      as<float>().store_as<Floats4>(i + 4, {x[4], x[5], x[6], x[7]});
      return;
    }
    uint32_t w[4];
#pragma unroll
    for (int j = 0; j < 4; ++j)
      w[j] = dtype == DType::f16 ? ptx::pack2<f16>(x[2 * j], x[2 * j + 1])
                                 : ptx::pack2<bf16>(x[2 * j], x[2 * j + 1]);
    as<f16>().store_as<Words4>(i, {w[0], w[1], w[2], w[3]});
  }
};

/** Whether runs of eight elements that begin at a multiple of 8 can be read as vectors. */
inline bool is_vector(const Operand &o) {
  const int32_t bytes = o.dtype == DType::f32 ? 4 : 2;
  return uint64_t(o.data) % 16 == 0 && o.stride_f * bytes % 16 == 0 &&
         o.stride_h * bytes % 16 == 0 && o.stride_w * bytes % 16 == 0;
}

/** An operand of a command: its slot's base plus its offset. */
inline Operand operand(const View &view, void *const *bases) {
  if (!view.present()) return {};
  return {static_cast<char *>(bases[view.slot]) + view.offset(), view.dtype, view.stride_f,
          view.stride_h, view.stride_w};
}

// ------------------------------------------------------------------------------------------------

SLUICE_DEVICE float gelu(float x) { return 0.5f * x * (1.0f + erff(x * 0.70710678118654752f)); }
SLUICE_DEVICE float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

/** Act::geglu, which pairs columns, is its kernels' own business. */
SLUICE_DEVICE float activate(float x, Act act) {
  switch (act) {
    case Act::silu:
      return x * sigmoid(x);
    case Act::gelu:
      return gelu(x);
    case Act::quick_gelu:
      return x * sigmoid(1.702f * x);
    case Act::gelu_tanh:
      return 0.5f * x * (1.0f + tanhf(0.79788456080286536f * (x + 0.044715f * x * x * x)));
    case Act::sigmoid:
      return sigmoid(x);
    default:
      return x;
  }
}

} // namespace sluice::cuda
