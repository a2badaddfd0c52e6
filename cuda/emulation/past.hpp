/**
 * @file
 * Which work of the streams comes before which: by its stream, by the events that streams wait for,
 * by what the host waits for. Work that meets other work's bytes without coming after it is an
 * error, whichever of the two happens to run first.
 */
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "emulation/memory.hpp"

namespace sluice::emulation {

/** How much of each line of work, by its number, comes before a moment. */
class Past {
 public:
  void raise(uint64_t line, uint64_t at);
  void merge(const Past &other);
  bool holds(uint64_t line, uint64_t at) const;

 private:
  std::map<uint64_t, uint64_t> lines_;
};

/**
 * Adds piece `at` of a line, which comes after `past`, and what it touches.
 * @return an empty sentence, or what it meets and does not come after: then it is not added
 */
std::string add_work(const std::string &name, uint64_t line, uint64_t at, const Past &past,
                     const std::vector<Claimed> &touched);

/** The host has waited: whatever comes from now on comes after this. */
void settle(const Past &past);

} // namespace sluice::emulation
