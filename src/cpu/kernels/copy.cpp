/** @file Copies between slots, bytes unchanged. */
#include "cpu/kernels/support.hpp"

namespace sluice::SLUICE_ISA_NAMESPACE {

int run_copy(const CopyCommand &c, Bases bases, int32_t thread, int32_t threads) {
  const char *source = address<const char>(c.source, bases);
  char *out = address<char>(c.out, bases);
  const int64_t size = dtype_bytes(c.source.dtype);
  const View *const views[] = {&c.source, &c.out};
  const auto runs = merge_runs(c.frames, c.rows, c.cols, c.channels, views, true);
  for_pieces(runs, thread, threads, [&](int64_t run, int64_t begin, int64_t end) {
    __builtin_memcpy(out + (runs.offset(1, run) + begin) * size,
                     source + (runs.offset(0, run) + begin) * size, (end - begin) * size);
  });
  return SLUICE_OK;
}

} // namespace sluice::SLUICE_ISA_NAMESPACE
