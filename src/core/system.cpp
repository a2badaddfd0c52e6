#include "core/system.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <thread>
#include <vector>

#include <unistd.h>
#if defined(__linux__)
#include <sched.h>
#elif defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace sluice {
namespace {

#if defined(__linux__)

std::string read_line(const std::string &path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

/** A number in a file; `otherwise` where it is missing, or a word such as `max`. */
double read_number(const std::string &path, double otherwise) {
  const std::string line = read_line(path);
  char *end = nullptr;
  const double value = std::strtod(line.c_str(), &end);
  return end == line.c_str() ? otherwise : value;
}

bool has_item(const std::string &list, const char *item) {
  std::stringstream items(list);
  for (std::string word; std::getline(items, word, ',');) {
    if (word == item) return true;
  }
  return false;
}

/**
 * Folders of this process's cgroup, innermost first: version 2 where controller is empty, else that
 * controller of version 1. A container often sees its own cgroup as the root of the mount, so
 * folders that do not exist are simply never read.
 */
std::vector<std::string> cgroup_folders(const char *controller) {
  const bool unified = *controller == 0;
  std::string mount;
  std::ifstream mounts("/proc/self/mountinfo");
  for (std::string line; std::getline(mounts, line);) {
    const size_t dash = line.find(" - ");
    if (dash == std::string::npos) continue;
    std::stringstream left(line.substr(0, dash)), right(line.substr(dash + 3));
    std::string skip, point, type, source, options;
    left >> skip >> skip >> skip >> skip >> point;
    right >> type >> source >> options;
    if (unified ? type == "cgroup2" : type == "cgroup" && has_item(options, controller)) {
      mount = point;
      break;
    }
  }
  std::vector<std::string> folders;
  if (mount.empty()) return folders;

  std::string path;
  std::ifstream groups("/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string names = line.substr(first + 1, second - first - 1);
    if (unified ? names.empty() : has_item(names, controller)) path = line.substr(second + 1);
  }
  while (path.size() > 1) {
    folders.push_back(mount + path);
    path.resize(path.find_last_of('/'));
  }
  folders.push_back(mount);
  return folders;
}

double cpu_quota() {
  double cpus = INFINITY;
  for (const std::string &folder : cgroup_folders("")) {
    std::stringstream line(read_line(folder + "/cpu.max"));
    std::string quota;
    double period = 0;
    if (line >> quota >> period && quota != "max" && period > 0) {
      cpus = std::min(cpus, std::strtod(quota.c_str(), nullptr) / period);
    }
  }
  for (const std::string &folder : cgroup_folders("cpu")) {
    const double quota = read_number(folder + "/cpu.cfs_quota_us", -1);
    const double period = read_number(folder + "/cpu.cfs_period_us", 0);
    if (quota > 0 && period > 0) cpus = std::min(cpus, quota / period);
  }
  return cpus;
}

double meminfo(const char *key) {
  std::ifstream file("/proc/meminfo");
  const std::string wanted = std::string(key) + ":";
  for (std::string line; std::getline(file, line);) {
    if (line.rfind(wanted, 0) == 0)
      return std::strtod(line.c_str() + wanted.size(), nullptr) * 1024;
  }
  return INFINITY;
}

struct CgroupMemory {
  double limit = INFINITY;
  double free = INFINITY;
};

CgroupMemory cgroup_memory() {
  CgroupMemory out;
  const auto add = [&](const std::string &limit_path, const std::string &usage_path) {
    const double limit = read_number(limit_path, INFINITY);
    if (!(limit < 0x1p62)) return; // version 1 writes "no limit" as a number near 2^63
    out.limit = std::min(out.limit, limit);
    out.free = std::min(out.free, std::max(0.0, limit - read_number(usage_path, 0)));
  };
  for (const std::string &folder : cgroup_folders("")) {
    add(folder + "/memory.max", folder + "/memory.current");
  }
  for (const std::string &folder : cgroup_folders("memory")) {
    add(folder + "/memory.limit_in_bytes", folder + "/memory.usage_in_bytes");
  }
  return out;
}

#endif

uint64_t hardware_memory() {
  const long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
  return pages > 0 && size > 0 ? uint64_t(pages) * uint64_t(size) : UINT64_MAX;
}

} // namespace

int cpu_threads() {
  double threads = std::max(1u, std::thread::hardware_concurrency());
#if defined(__linux__)
  // A mask of fixed size is refused on machines with more processors than it has bits, hence the
  // growing one.
  for (int bits = 1024; bits <= 1 << 20; bits *= 4) {
    cpu_set_t *set = CPU_ALLOC(bits);
    if (!set) break;
    const size_t bytes = CPU_ALLOC_SIZE(bits);
    const bool known = sched_getaffinity(0, bytes, set) == 0;
    if (known) threads = CPU_COUNT_S(bytes, set);
    CPU_FREE(set);
    if (known) break;
  }
  threads = std::min(threads, std::ceil(cpu_quota()));
#endif
  return std::max(1, int(threads));
}

std::string cpu_model() {
#if defined(__linux__)
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const size_t colon = line.find(": ");
    if (colon != std::string::npos && line.rfind("model name", 0) == 0)
      return line.substr(colon + 2);
  }
#elif defined(__APPLE__)
  char name[128];
  size_t size = sizeof name;
  if (sysctlbyname("machdep.cpu.brand_string", name, &size, nullptr, 0) == 0) return name;
#endif
  return "unknown processor";
}

uint64_t memory_limit() {
#if defined(__linux__)
  const double limit = cgroup_memory().limit;
  if (limit < 0x1p62) return std::min(hardware_memory(), uint64_t(limit));
#endif
  return hardware_memory();
}

uint64_t memory_free() {
#if defined(__linux__)
  const double bytes = std::min(cgroup_memory().free, meminfo("MemAvailable"));
  if (bytes < 0x1p62) return uint64_t(bytes);
#endif
  return hardware_memory();
}

} // namespace sluice
