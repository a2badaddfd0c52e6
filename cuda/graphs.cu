#include "graphs.hpp"

#include <algorithm>

#include "core/ranges.h"

namespace sluice::cuda {
namespace {

/** Words of commands that a lane remembers: some forty thousand commands, far more than a step's.
 */
constexpr size_t kMostWords = size_t(4) << 20;

uint64_t mix(uint64_t hash, uint64_t value) {
  hash = (hash ^ value) * 0x9e3779b97f4a7c15ull;
  return hash ^ hash >> 29;
}

/** Addresses of the slots that the commands name, by slot. Addresses of other slots may change. */
std::vector<const void *> named_bases(const Segment &segment, void *const *bases) {
  std::vector<int32_t> slots;
  for (int32_t at = 0; at < segment.word_count;) {
    const Header &header = reinterpret_cast<const Header &>(segment.words[at]);
    Claims claims;
    ranges(header, 1, claims);
    for (int i = 0; i < claims.count; ++i) slots.push_back(claims.items[i].range.slot);
    at += header.words;
  }
  std::sort(slots.begin(), slots.end());
  slots.erase(std::unique(slots.begin(), slots.end()), slots.end());
  std::vector<const void *> named;
  for (const int32_t slot : slots) named.push_back(bases[slot]);
  return named;
}

} // namespace

Graphs::~Graphs() {
  for (const Entry &entry : entries_) {
    if (entry.graph) cudaGraphExecDestroy(entry.graph);
  }
}

Graphs::Entry &Graphs::of(const Segment &segment, void *const *bases) {
  const int32_t *const begin = segment.words, *const end = begin + segment.word_count;
  const std::vector<const void *> named = named_bases(segment, bases);
  uint64_t hash = uint64_t(segment.word_count);
  for (const int32_t *at = begin; at < end; ++at) hash = mix(hash, uint32_t(*at));
  for (const void *base : named) hash = mix(hash, reinterpret_cast<uint64_t>(base));
  for (auto it = entries_.begin(); it != entries_.end(); ++it) {
    if (it->hash != hash || it->bases != named ||
        !std::equal(begin, end, it->words.begin(), it->words.end()))
      continue;
    entries_.splice(entries_.begin(), entries_, it);
    return entries_.front();
  }
  while (!entries_.empty() && words_ + size_t(segment.word_count) > kMostWords)
    forget(std::prev(entries_.end()));
  words_ += size_t(segment.word_count);
  entries_.push_front({hash, {begin, end}, named});
  return entries_.front();
}

void Graphs::forget(std::list<Entry>::iterator entry) {
  if (entry->graph) cudaGraphExecDestroy(entry->graph);
  words_ -= entry->words.size();
  entries_.erase(entry);
}

} // namespace sluice::cuda
