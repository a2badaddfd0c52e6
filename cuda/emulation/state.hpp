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

/** Threads that do some things together: a warp, or the four of a group. */
template <uint32_t kThreads>
struct Team {
  uint32_t arrived = 0;
  uint32_t epoch = 0; ///< barriers passed
  Meeting meeting = Meeting::none;
  Site site;
  void *deposits[kThreads];
};
using Warp = Team<kWarp>;
using Group = Team<kGroup>;

/** A thread that waits alone. */
struct Waiting {
  uint32_t thread;
  std::function<bool()> is_over;
};

struct Block {
  const char *kernel = "";
  Shape shape;
  Dim3 index;
  uint64_t flat_index = 0;
  std::vector<Thread> threads;
  std::vector<Warp> warps;
  std::vector<Group> groups;
  std::vector<uint32_t> ready; ///< threads that can run
  std::vector<Waiting> waiting;
  bool changed = false; ///< something that threads of `waiting` wait for
  uint32_t arrived = 0; ///< at the block barrier
  Site barrier_site;
  uint32_t epoch = 0; ///< block barriers passed
  uint32_t done = 0;
  uint32_t current = 0;
  uint64_t random = 0; ///< 0: threads run in order
  uint32_t pace = 0;   ///< drawn for the block: how soon copies land
  Fiber scheduler;
  const std::function<void()> *body = nullptr;
  std::string fault;
};

/** The block that runs on this OS thread. Not kept across a switch by the compiler: fibers stay on
 * their OS thread. */
extern thread_local Block *running;

/** Suspends the running thread until free_thread. */
void block_thread(Meeting meeting, Site site);
void free_thread(uint32_t thread);

/** A number drawn for the block; 0 where there is no seed. */
uint64_t draw();

/**
 * What goes on beside the threads, in boxes.cpp: a box lands, where `must` is false if a draw says
 * so. False: none did.
 */
bool async_step(bool must);

/** A fault's sentence: kernel, block, thread and source line before what is wrong. */
std::string described(uint32_t thread, Site site, const char *what);

// Memory's part of a block's life.
void memory_block_begin(uint32_t dynamic_bytes);
void memory_block_end();
void memory_launch_begin();

} // namespace sluice::emulation
