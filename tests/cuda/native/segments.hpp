// Random commands between few places of device memory, with copies to and from the host that are
// joined before anything meets them.
#pragma once

#include <random>
#include <vector>

#include "core/commands.h"
#include "core/ranges.h"

namespace sluice::test {

constexpr int32_t kChannels = 16, kPlaces = 24, kPlaceBytes = kChannels * 4;
constexpr int32_t kArena = 0, kHost = 2, kSlots = 3;

inline View view_of(int32_t slot, int32_t place) {
  View view{};
  view.slot = slot;
  view.dtype = DType::f32;
  view.offset_lo = uint32_t(place * kPlaceBytes);
  view.stride_f = view.stride_h = view.stride_w = kChannels;
  return view;
}

/** Whether one of two commands writes what the other touches. */
inline bool meet(const Header &a, const Header &b) {
  Claims mine, other;
  ranges(a, 1, mine);
  ranges(b, 1, other);
  for (int i = 0; i < mine.count; ++i) {
    for (int j = 0; j < other.count; ++j) {
      const sluice_range &x = mine.items[i].range, &y = other.items[j].range;
      if (x.slot == y.slot && (x.written || y.written) && x.begin < y.end && y.begin < x.end)
        return true;
    }
  }
  return false;
}

class Commands {
 public:
  /** Random ones. */
  Commands(uint32_t seed, int32_t count) : random_(seed) {
    while (count_ < count) draw();
    join(ticket_);
  }

  /** A copy under way while `between` commands in one place, more than a segment holds, go by; then
   * its join and a use. */
  static Commands with_long_copy(int32_t between, int32_t place) {
    Commands all(0, 0);
    CopyCommand c{};
    c.ticket = all.ticket_ = 1;
    c.frames = c.rows = c.cols = 1, c.channels = kChannels;
    c.source = view_of(kHost, 0), c.out = view_of(kArena, 0);
    all.add(c, Opcode::copy);
    for (int32_t i = 0; i < between; ++i) all.add(silu(place, place), Opcode::unary);
    for (int32_t i = 0; i < 8; ++i) all.add(silu(4, 4), Opcode::unary);
    all.join(1);
    all.add(silu(0, 1), Opcode::unary);
    return all;
  }

  const std::vector<int32_t> &words() const { return words_; }
  int32_t count() const { return count_; }

 private:
  static UnaryCommand silu(int32_t from, int32_t to) {
    UnaryCommand c{};
    c.act = Act::silu;
    c.frames = c.rows = c.cols = 1, c.channels = kChannels;
    c.source = view_of(kArena, from), c.out = view_of(kArena, to);
    return c;
  }

  int32_t below(int32_t n) { return int32_t(random_() % uint32_t(n)); }

  void draw() {
    const int32_t kind = below(10);
    if (kind < 2) {
      CopyCommand c{};
      c.ticket = below(5) == 0 ? 0 : ticket_ + 1;
      c.frames = c.rows = c.cols = 1, c.channels = kChannels;
      const int32_t from = below(2) * kHost;
      c.source = view_of(from, below(kPlaces));
      c.out = view_of(from == kHost ? kArena : kHost, below(kPlaces));
      c.header.opcode = Opcode::copy;
      add(c, Opcode::copy);
      if (c.ticket) open_.push_back(c), ticket_ = c.ticket;
    } else if (kind < 6) {
      UnaryCommand c{};
      c.act = below(2) ? Act::silu : Act::none;
      c.frames = c.rows = 1, c.cols = 1 + below(3), c.channels = kChannels;
      c.source = view_of(kArena, below(kPlaces - 3));
      // In place, or apart.
      c.out = view_of(kArena, (c.source.offset_lo / kPlaceBytes + below(2) * 6) % (kPlaces - 3));
      if (c.out.offset_lo > c.source.offset_lo &&
          c.out.offset_lo < c.source.offset_lo + uint32_t(c.cols * kPlaceBytes))
        return;
      add(c, Opcode::unary);
    } else {
      BinaryCommand c{};
      c.op = below(2) ? BinaryOp::add : BinaryOp::sub;
      c.frames = c.rows = c.cols = 1, c.channels = kChannels;
      c.b_channel_stride = 1;
      c.a = view_of(kArena, below(kPlaces)), c.b = view_of(kArena, below(kPlaces));
      c.t.slot = -1;
      c.out = view_of(kArena, below(kPlaces));
      add(c, Opcode::binary);
    }
  }

  /** Joins first what the command meets. */
  template <class Command>
  void add(Command command, Opcode opcode) {
    command.header.opcode = opcode;
    command.header.words = int32_t(sizeof command / 4);
    int32_t met = 0;
    for (const CopyCommand &copy : open_)
      if (copy.ticket > joined_ && meet(command.header, copy.header)) met = copy.ticket;
    if (met) join(met);
    append(command);
  }

  void join(int32_t ticket) {
    if (ticket <= joined_) return;
    JoinCommand c{};
    c.header.opcode = Opcode::join;
    c.header.words = int32_t(sizeof c / 4);
    c.ticket = joined_ = ticket;
    append(c);
  }

  template <class Command>
  void append(const Command &command) {
    const int32_t *const begin = reinterpret_cast<const int32_t *>(&command);
    words_.insert(words_.end(), begin, begin + sizeof command / 4);
    count_ += 1;
  }

  std::mt19937 random_;
  std::vector<int32_t> words_;
  std::vector<CopyCommand> open_;
  int32_t count_ = 0, ticket_ = 0, joined_ = 0;
};

} // namespace sluice::test
