/**
 * @file
 * Segments that were captured as CUDA graphs, by their commands and base addresses: a step that a
 * run repeats is then one launch a segment.
 */
#pragma once

#include <cstdint>
#include <list>
#include <vector>

#include "runtime.hpp"
#include "segment.hpp"

namespace sluice::cuda {

class Graphs {
 public:
  Graphs() = default;
  ~Graphs();
  Graphs(const Graphs &) = delete;
  Graphs &operator=(const Graphs &) = delete;

  /** A segment as a lane has met it. */
  struct Entry {
    uint64_t hash;
    std::vector<int32_t> words;
    std::vector<const void *> bases; ///< of the slots that the commands name
    cudaGraphExec_t graph = nullptr;
    bool refused = false; ///< there was no memory for its graph
    bool met = false;     ///< launched before
  };

  /** The entry of these commands with these addresses, made where there is none; the one used last
   * comes first, and the last ones go. */
  Entry &of(const Segment &segment, void *const *bases);

 private:
  void forget(std::list<Entry>::iterator entry);

  std::list<Entry> entries_;
  size_t words_ = 0;
};

} // namespace sluice::cuda
