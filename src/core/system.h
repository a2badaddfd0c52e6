/**
 * @file
 * What this process may use of the machine: processors and memory, by affinity, by cgroup (versions
 * 1 and 2) and by hardware.
 */
#pragma once

#include <cstdint>
#include <string>

namespace sluice {

/** Threads that the cgroup's CPU quota (rounded up) and the affinity mask grant; at least 1. */
int cpu_threads();

/** Processor model as the system calls it. */
std::string cpu_model();

/** Bytes this process may use at most: the machine's memory or the tightest cgroup limit. */
uint64_t memory_limit();

/** Bytes that are still free under that limit. */
uint64_t memory_free();

} // namespace sluice
