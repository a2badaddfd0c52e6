#include "cpu/amx.h"

#if defined(SLUICE_AMX) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>

namespace sluice {
namespace {

// Bits of CPUID leaf 1 (ecx) and leaf 7 (edx), and of XCR0: Intel's manual, volumes 1 and 2.
constexpr uint32_t kOsXsave = 1u << 27;
constexpr uint32_t kAmxBf16 = 1u << 22, kAmxTile = 1u << 24;
constexpr uint64_t kTileConfigState = 1u << 17, kTileDataState = 1u << 18;
// arch/x86/include/uapi/asm/prctl.h
constexpr long kRequestPermission = 0x1023, kTileData = 18;

/** The state that the system saves. */
uint64_t enabled_state() {
  uint32_t low, high;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return uint64_t(high) << 32 | low;
}

bool ask() {
  uint32_t a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & kOsXsave)) return false;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  if ((d & (kAmxBf16 | kAmxTile)) != (kAmxBf16 | kAmxTile)) return false;
  constexpr uint64_t kStates = kTileConfigState | kTileDataState;
  if ((enabled_state() & kStates) != kStates) return false;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

} // namespace

bool amx_granted() {
  static const bool granted = ask();
  return granted;
}

} // namespace sluice

#else

namespace sluice {
bool amx_granted() { return false; }
} // namespace sluice

#endif
