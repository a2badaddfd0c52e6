/** @file Chooses the kernels of the widest instruction set that processor and system offer, once.
 */
#include <cstdlib>
#include <cstring>

#include "cpu/amx.h"
#include "cpu/kernels.h"

namespace sluice {

#if defined(__x86_64__)
namespace avx512 {
extern const Kernels kTable, kAmxModelTable;
#if defined(SLUICE_AMX)
extern const Kernels kAmxTable;
#endif
} // namespace avx512
namespace avx2 {
extern const Kernels kTable, kAmxModelTable;
}
#endif
namespace generic {
extern const Kernels kTable;
}

namespace {

struct Available {
  const Kernels *tables[4];
  int32_t count = 0;
  const Kernels *emulated = nullptr; ///< AMX, on the widest set
  bool pairs = false;                ///< of bfloat16, by AVX-512

  Available() {
#if defined(__x86_64__)
    // __builtin_cpu_supports also asks whether the system saves the registers.
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                      __builtin_cpu_supports("f16c");
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") &&
                        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                        __builtin_cpu_supports("avx512vl");
    pairs = avx512 && __builtin_cpu_supports("avx512bf16");
    emulated = avx512 ? &avx512::kAmxModelTable : avx2 ? &avx2::kAmxModelTable : nullptr;
#if defined(SLUICE_AMX)
    if (pairs && amx_granted()) tables[count++] = &avx512::kAmxTable;
#endif
    if (avx512) tables[count++] = &avx512::kTable;
    if (avx2) tables[count++] = &avx2::kTable;
#endif
    tables[count++] = &generic::kTable;
  }
};

const Available &available() {
  static const Available tables;
  return tables;
}

const Kernels *choose() {
  const Available &a = available();
  const char *wanted = std::getenv("SLUICE_ISA");
  for (int32_t i = 0; wanted && i < a.count; ++i) {
    if (std::strcmp(a.tables[i]->name, wanted) == 0) return a.tables[i];
  }
  if (wanted && a.emulated && std::strcmp(a.emulated->name, wanted) == 0) return a.emulated;
  return a.tables[0];
}

} // namespace

const Kernels &kernels() {
  static const Kernels *const chosen = choose();
  return *chosen;
}

bool computes_bf16_products() {
  switch (kernels().products) {
    case Products::none:
      return false;
    case Products::pairs:
      return available().pairs;
    case Products::amx:
    case Products::amx_model:
      return true;
  }
  return false;
}

const Kernels *const *available_kernels(int32_t &count) {
  count = available().count;
  return available().tables;
}

} // namespace sluice
