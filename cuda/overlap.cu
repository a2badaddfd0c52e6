#include "overlap.hpp"

#include <algorithm>

#include "core/ranges.h"

namespace sluice::cuda {
namespace {

bool conflict(const Claims &a, const Claims &b) {
  for (int i = 0; i < a.count; ++i) {
    const sluice_range &mine = a.items[i].range;
    for (int j = 0; j < b.count; ++j) {
      const sluice_range &other = b.items[j].range;
      if (mine.slot == other.slot && (mine.written || other.written) && mine.begin < other.end &&
          other.begin < mine.end)
        return true;
    }
  }
  return false;
}

/** A copy's ticket, 0 where it has none or is no copy. */
int32_t ticket_of(const Header &command) {
  return command.opcode == Opcode::copy ? reinterpret_cast<const CopyCommand &>(command).ticket : 0;
}

/** A stream as the placement goes on. */
struct Track {
  int32_t reached = kNone; ///< last command of the other stream that its next one comes after
  double free_at = 0;      ///< when its last command ends, in seconds of one multiprocessor
};

} // namespace

std::vector<Placement> place(const Segment &segment) {
  const size_t count = size_t(segment.count);
  std::vector<Placement> placements(count);
  std::vector<Claims> claims(count);
  std::vector<double> ends(count);
  /** The command that each is done with: a copy's join, else itself. */
  std::vector<int32_t> done(count), tickets(count);
  Track tracks[kKernelStreams];
  const int32_t *at = segment.words;
  for (size_t i = 0; i < count; ++i) {
    const Header &command = reinterpret_cast<const Header &>(*at);
    at += command.words;
    done[i] = int32_t(i);
    tickets[i] = ticket_of(command);
    ranges(command, 1, claims[i]);
    if (command.opcode == Opcode::join) {
      const int32_t ticket = reinterpret_cast<const JoinCommand &>(command).ticket;
      for (size_t j = 0; j < i; ++j) {
        const bool is_open = tickets[j] > 0 && done[j] == int32_t(j);
        if (is_open && tickets[j] <= ticket) done[j] = int32_t(i);
      }
      continue;
    }
    int32_t after[kKernelStreams] = {kNone, kNone};
    double ready = 0;
    for (size_t j = 0; j < i; ++j) {
      if (!conflict(claims[i], claims[j])) continue;
      int32_t &last = after[placements[j].stream];
      last = std::max(last, done[j]);
      ready = std::max(ready, ends[j]);
    }
    const auto start = [&](int32_t stream) { return std::max(ready, tracks[stream].free_at); };
    int32_t stream = kMainStream;
    if (command.opcode != Opcode::copy) {
      const double main = start(kMainStream), side = start(kSideStream);
      // Where both would begin it at once, it stays behind what it comes after last: no wait.
      const int32_t latest = after[kSideStream] > after[kMainStream] ? kSideStream : kMainStream;
      stream = main == side ? latest : main < side ? kMainStream : kSideStream;
    }
    Track &track = tracks[stream];
    placements[i].stream = stream;
    if (const int32_t other = after[1 - stream]; other > track.reached) {
      placements[i].waits_for = track.reached = other;
      placements[size_t(other)].is_waited_for = true;
    }
    ends[i] = track.free_at = start(stream) + seconds_of(command);
  }
  return placements;
}

} // namespace sluice::cuda
