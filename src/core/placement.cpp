#include "core/placement.h"

#if defined(__linux__)
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace sluice {

#if defined(__linux__)

int32_t current_processor() {
  const int cpu = sched_getcpu();
  return cpu < kMostProcessors ? cpu : -1;
}

int32_t current_thread() { return int32_t(syscall(SYS_gettid)); }

bool move_away(int32_t thread, const Processors &taken) {
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return false;
  for (int32_t i = 0; i < kMostProcessors; ++i) {
    if (taken[size_t(i)]) CPU_CLR(size_t(i), &allowed);
  }
  return CPU_COUNT(&allowed) > 0 && sched_setaffinity(thread, sizeof allowed, &allowed) == 0;
}

void run_where(int32_t other) {
  cpu_set_t allowed;
  if (sched_getaffinity(other, sizeof allowed, &allowed) == 0)
    sched_setaffinity(0, sizeof allowed, &allowed);
}

#else

int32_t current_processor() { return -1; }
int32_t current_thread() { return 0; }
bool move_away(int32_t, const Processors &) { return false; }
void run_where(int32_t) {}

#endif

} // namespace sluice
