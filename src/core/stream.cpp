#include "core/stream.h"

#include <algorithm>

#include "core/check.h"
#include "core/error.h"
#include "core/ranges.h"

namespace sluice {
namespace {

using ull = unsigned long long;
constexpr size_t kHeaderWords = sizeof(Header) / 4;

[[noreturn]] void refuse(const std::string &message) {
  throw Error(SLUICE_BAD_COMMAND, "loadStream: " + message);
}

} // namespace

std::string describe(int32_t index, const Header &command) {
  return format("command %d (%s, node %d)", index, opcode_name(command.opcode), command.node);
}

Stream::Stream(const Device &device, const int32_t *words, size_t count,
               std::vector<uint64_t> slot_bytes)
    : device_(device), words_(words, words + count), slot_bytes_(std::move(slot_bytes)) {
  if (device.backend->command_version != kCommandVersion) {
    refuse(format("expected a backend of command version %d, got %d", kCommandVersion,
                  device.backend->command_version));
  }
  bound_ends_.resize(slot_bytes_.size());
  int32_t index = 0;
  for (size_t word = 0; word < count; ++index) {
    const size_t left = count - word;
    if (left < kHeaderWords) {
      refuse(
          format("command %d: expected a header of %zu words, got %zu", index, kHeaderWords, left));
    }
    const Header &header = reinterpret_cast<const Header &>(words_[word]);
    const int32_t expected = command_words(header.opcode);
    if (expected == 0) {
      refuse(format("command %d (node %d): expected a known opcode, got %d", index, header.node,
                    int(header.opcode)));
    }
    if (header.words != expected || size_t(expected) > left) {
      refuse(format("%s: expected %d words, got %d with %zu left", describe(index, header).c_str(),
                    expected, header.words, left));
    }
    add(index, word);
    word += size_t(expected);
  }
}

const Header &Stream::command(int32_t index) const {
  return reinterpret_cast<const Header &>(words_[entries_[size_t(index)].word]);
}

void Stream::add(int32_t index, size_t word) {
  const Header &header = reinterpret_cast<const Header &>(words_[word]);
  const Abilities abilities{device_.backend->narrow_activations != 0,
                            device_.backend->uses_scratch != 0, device_.backend->bf16_products != 0,
                            device_.backend->conv_phases != 0};
  const std::string broken = check_command(header, abilities);
  if (!broken.empty()) refuse(describe(index, header) + ", " + broken);

  fetches_ = fetches_ || header.opcode == Opcode::fetch;
  const bool copies = header.opcode == Opcode::copy;
  Entry entry{word, 0, 0, 0};
  Claims claims;
  ranges(header, 1, claims);
  for (int i = 0; i < claims.count; ++i) {
    const sluice_range &range = claims.items[i].range;
    const size_t slot = size_t(range.slot);
    const std::string where = describe(index, header) + ", " + claims.items[i].operand;
    if (slot >= slot_bytes_.size()) {
      refuse(where + format(": expected a slot below %zu, got %d", slot_bytes_.size(), range.slot));
    }
    if (range.end > slot_bytes_[slot]) {
      refuse(where + format(": expected bytes inside slot %d (%llu bytes), got %llu to %llu",
                            range.slot, ull(slot_bytes_[slot]), ull(range.begin), ull(range.end)));
    }
    if (range.slot == kSlotHost && !copies) {
      refuse(where + ": expected memory of the device, got the host's, which copies alone reach");
    }
    if (range.written && range.slot == kSlotWeights) {
      refuse(where + ": expected an operand that may be written, got the weights");
    }
    if (range.slot == kSlotArena) {
      entry.arena_end = std::max(entry.arena_end, range.end);
    } else if (range.slot >= kSlotBound && range.end > bound_ends_[slot]) {
      bound_ends_[slot] = range.end;
      marks_.push_back({index, range.slot, range.end});
    }
  }
  if (const Scratch scratch = scratch_of(header); scratch.view) {
    entry.scratch_begin = scratch.view->offset();
    entry.scratch_bytes = scratch.bytes_per_thread;
  }
  entries_.push_back(entry);
}

void Stream::check_threads(int32_t threads) const {
  for (size_t i = 0; i < entries_.size(); ++i) {
    const Entry &entry = entries_[i];
    // Both are at most what fits a slot and 2^32 x 2^31: no wrap.
    const uint64_t end = entry.scratch_begin + uint64_t(threads) * entry.scratch_bytes;
    if (entry.scratch_bytes == 0 || end <= slot_bytes_[kSlotArena]) continue;
    throw Error(
        SLUICE_BAD_COMMAND,
        format("run: %s, scratch: expected %d x %u bytes at %llu inside the arena's %llu; "
               "plan for as many threads as the run has",
               describe(int32_t(i), command(int32_t(i))).c_str(), threads, entry.scratch_bytes,
               ull(entry.scratch_begin), ull(slot_bytes_[kSlotArena])));
  }
}

uint64_t Stream::high_water(int32_t commands, int32_t threads, const uint64_t *bindings) const {
  uint64_t high = 0;
  for (int32_t i = 0; i < commands; ++i) {
    const Entry &entry = entries_[size_t(i)];
    high = std::max(high, entry.arena_end);
    if (entry.scratch_bytes) {
      high = std::max(high, entry.scratch_begin + uint64_t(threads) * entry.scratch_bytes);
    }
  }
  for (const BoundMark &mark : marks_) {
    if (mark.command >= commands) break;
    high = std::max(high, bindings[mark.slot - kSlotBound] + mark.end);
  }
  return high;
}

} // namespace sluice
