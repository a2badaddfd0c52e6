/** @file What conv_wgmma takes, its boxes of pixels and its tensor maps. */
#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "kernels/conv_wgmma_run.hpp"

namespace sluice::cuda {
namespace {

#if defined(SLUICE_CUDA_90A) || defined(SLUICE_CUDA_EMULATION)
constexpr bool kIsBuilt = true;
#else
constexpr bool kIsBuilt = false;
#endif

/** SLUICE_CUDA_WGMMA=0 leaves all to conv_mma, so that both can be timed. */
bool is_wanted() {
  static const bool wanted = [] {
    const char *const text = std::getenv("SLUICE_CUDA_WGMMA");
    return !text || std::strcmp(text, "0") != 0;
  }();
  return wanted;
}

/** Blocks of the depth are whole: at most a quarter of what is multiplied is filling. */
bool fills_boxes(const ConvProblem &p) {
  const int32_t first = p.first_channels, second = p.in_channels - first;
  const int32_t filled =
      (ceil_div(first, kBoxChannels) + ceil_div(second, kBoxChannels)) * kBoxChannels;
  return first % 8 == 0 && second % 8 == 0 && filled * 4 <= p.in_channels * 5;
}

cudaError_t encode(TensorMap &map, DType dtype, void *data, uint32_t rank, const uint64_t *dims,
                   const uint64_t *strides, const uint32_t *box, const uint32_t *steps,
                   CUtensorMapSwizzle swizzle) {
  const auto type =
      dtype == DType::f16 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
  const CUresult code = tensor_map_encoder()(
      &map, type, rank, data, reinterpret_cast<const cuuint64_t *>(dims),
      reinterpret_cast<const cuuint64_t *>(strides), box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
      swizzle, CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return code == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue;
}

/** Whether the input is read through an upsampling to twice its size. */
bool is_doubled(const ConvCommand &c) {
  return c.in_rows == 2 * c.phys_rows && c.in_cols == 2 * c.phys_cols;
}

/** Whether a plain matrix product may see a frame's pixels as one line. */
bool is_line(const ConvCommand &c) {
  bool line = c.kernel_h == 1 && c.kernel_w == 1 && c.stride == 1 && !is_doubled(c) &&
              c.row0 == c.src_row0 && c.col0 == c.src_col0 && c.src_cols == c.cols;
  for (int i = 0; i < c.sources; ++i) line &= c.source[i].stride_h == c.cols * c.source[i].stride_w;
  return line;
}

/** Whether frames lie behind one another as well. */
bool is_one_line(const ConvCommand &c) {
  bool line = is_line(c) && c.src_rows == c.rows;
  for (int i = 0; i < c.sources; ++i)
    line &= c.frames == 1 || c.source[i].stride_f == c.rows * c.source[i].stride_h;
  return line;
}

} // namespace

bool offers_wgmma(const Device &device) {
  return kIsBuilt && device.architecture == 90 && tensor_map_encoder() && is_wanted();
}

bool takes_wgmma(const ConvCommand &c, const ConvProblem &p, const Launch &launch, DType dtype) {
  bool whole = p.weight.dtype == dtype && uintptr_t(p.weight.data) % 16 == 0;
  for (int i = 0; i < c.sources; ++i) whole &= p.source[i].dtype == dtype && is_vector(p.source[i]);
  const bool same_size = p.in_rows == p.phys_rows && p.in_cols == p.phys_cols;
  const bool plain = !p.affine.present() && p.prologue_act == Act::none &&
                     ((same_size && p.stride <= 2) || (is_doubled(c) && p.stride == 1));
  return offers_wgmma(launch.device) && whole && plain && fills_boxes(p);
}

BoxPlan box_plan(const ConvCommand &c, const ConvProblem &p, int32_t rows) {
  BoxPlan plan = {};
  plan.cols = c.cols, plan.rows = c.rows, plan.frames = c.frames;
  if (is_one_line(c)) {
    plan.cols = p.pixels, plan.rows = plan.frames = 1;
  } else if (is_line(c)) {
    plan.cols = c.cols * c.rows, plan.rows = 1;
  }
  plan.log_up = is_doubled(c);
  plan.source_channels[0] = p.first_channels;
  plan.source_channels[1] = p.in_channels - p.first_channels;
  plan.taps = c.kernel_h * c.kernel_w;
  // The box with the fewest tiles, the widest of those: its lines are read together.
  const int32_t log_box = rows == 256 ? 8 : 7;
  // A box that is read with steps spans as many more, and 256 are the most.
  const int32_t most = c.stride == 1 ? log_box : 7;
  int64_t least = 0;
  for (int32_t log_cols = most; log_cols >= 0; --log_cols) {
    for (int32_t log_rows = std::min(most, log_box - log_cols); log_rows >= 0; --log_rows) {
      const int32_t x = ceil_div(plan.cols, 1 << (log_cols + plan.log_up));
      const int32_t y = ceil_div(plan.rows, 1 << (log_rows + plan.log_up));
      const int64_t tiles = int64_t(x) * y * ceil_div(plan.frames, rows >> (log_cols + log_rows));
      if (least && tiles >= least) continue;
      least = tiles;
      plan.log_cols = log_cols, plan.log_rows = log_rows, plan.tiles_x = x, plan.tiles_y = y;
    }
  }
  plan.tiles_down = int32_t(least) << (2 * plan.log_up);
  return plan;
}

cudaError_t map_source(TensorMap &map, const ConvCommand &c, const ConvProblem &p,
                       const BoxPlan &plan, int32_t rows, int which) {
  const Operand &source = p.source[which];
  const bool line = is_line(c), one_line = is_one_line(c);
  const auto bytes = [](int32_t stride) { return uint64_t(stride) * 2; };
  const uint64_t pixel = bytes(source.stride_w);
  const uint64_t dims[] = {uint64_t(plan.source_channels[which]),
                           uint64_t(one_line ? p.pixels
                                    : line   ? plan.cols
                                             : c.src_cols),
                           uint64_t(line ? 1 : c.src_rows), uint64_t(one_line ? 1 : c.frames)};
  // A dimension of one element has a stride as if there were more behind it.
  const uint64_t row = dims[2] > 1 ? bytes(source.stride_h) : pixel * dims[1];
  const uint64_t strides[] = {pixel, row, dims[3] > 1 ? bytes(source.stride_f) : row * dims[2]};
  const uint32_t step = uint32_t(c.stride);
  const uint32_t steps[] = {1, step, step, 1};
  const uint32_t box[] = {uint32_t(kBoxChannels), step << plan.log_cols, step << plan.log_rows,
                          uint32_t(rows) >> (plan.log_cols + plan.log_rows)};
  return encode(map, source.dtype, source.data, 4, dims, strides, box, steps,
                CU_TENSOR_MAP_SWIZZLE_128B);
}

cudaError_t map_weights(TensorMap &map, const ConvProblem &p, int32_t columns) {
  const uint64_t dims[] = {kPanel, uint64_t(p.depth), uint64_t(p.panels)};
  const uint64_t strides[] = {kPanel * 2, uint64_t(p.depth) * kPanel * 2};
  const uint32_t box[] = {kPanel, uint32_t(kBoxChannels), uint32_t(columns / kPanel)};
  const uint32_t steps[] = {1, 1, 1};
  return encode(map, p.weight.dtype, p.weight.data, 3, dims, strides, box, steps,
                CU_TENSOR_MAP_SWIZZLE_32B);
}

} // namespace sluice::cuda
