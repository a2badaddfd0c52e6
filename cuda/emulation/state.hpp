/** @file What the parts of the emulator share about the block that runs on this OS thread. */
#pragma once

#include <cstdint>
#include <vector>

#include "emulation/fiber.hpp"
#include "emulation/machine.hpp"

namespace sluice::emulation {

struct Thread {
  Fiber fiber;
  uint32_t index = 0;
  bool done = false;
  Meeting waits = Meeting::none;
  Site site;
};

struct Warp {
  uint32_t arrived = 0;
  uint32_t epoch = 0; ///< warp barriers passed
  Meeting meeting = Meeting::none;
  Site site;
  void *deposits[kWarp];
};

struct Block {
  const char *kernel = "";
  Shape shape;
  Dim3 index;
  uint64_t flat_index = 0;
  std::vector<Thread> threads;
  std::vector<Warp> warps;
  std::vector<uint32_t> ready; ///< threads that can run
  uint32_t arrived = 0;        ///< at the block barrier
  Site barrier_site;
  uint32_t epoch = 0; ///< block barriers passed
  uint32_t done = 0;
  uint32_t current = 0;
  uint64_t random = 0; ///< 0: threads run in order
  Fiber scheduler;
  const std::function<void()> *body = nullptr;
  std::string fault;
};

/** The block that runs on this OS thread. Not kept across a switch by the compiler: fibers stay on
 * their OS thread. */
extern thread_local Block *running;

/** A fault's sentence: kernel, block, thread and source line before what is wrong. */
std::string described(uint32_t thread, Site site, const char *what);

// Memory's part of a block's life.
void memory_block_begin(uint32_t dynamic_bytes);
void memory_block_end();
void memory_launch_begin();

} // namespace sluice::emulation
