#include "emulation/past.hpp"

#include <algorithm>
#include <list>
#include <mutex>

namespace sluice::emulation {
namespace {

struct Piece {
  std::string name;
  uint64_t line, at;
  std::vector<Claimed> touched;
};

std::mutex pieces_lock;
/** What the host has not waited for. */
std::list<Piece> pieces;

/** What `a` does with bytes of `b` that one of them writes, and what `b` does; null: nothing. */
const char *meeting(const std::vector<Claimed> &a, const std::vector<Claimed> &b,
                    const char *&theirs) {
  for (const Claimed &mine : a) {
    for (const Claimed &other : b) {
      if (mine.begin >= other.end || other.begin >= mine.end) continue;
      if (!mine.written && !other.written) continue;
      if (mine.any_order && other.any_order) continue;
      theirs = other.written ? "writes" : "reads";
      return mine.written ? "writes" : "reads";
    }
  }
  return nullptr;
}

} // namespace

void Past::raise(uint64_t line, uint64_t at) {
  uint64_t &known = lines_[line];
  known = std::max(known, at);
}

void Past::merge(const Past &other) {
  for (const auto &[line, at] : other.lines_) raise(line, at);
}

bool Past::holds(uint64_t line, uint64_t at) const {
  const auto found = lines_.find(line);
  return found != lines_.end() && found->second >= at;
}

std::string add_work(const std::string &name, uint64_t line, uint64_t at, const Past &past,
                     const std::vector<Claimed> &touched) {
  const std::lock_guard guard(pieces_lock);
  for (const Piece &piece : pieces) {
    if (piece.line == line || past.holds(piece.line, piece.at)) continue;
    const char *theirs = nullptr;
    if (const char *const ours = meeting(touched, piece.touched, theirs))
      return name + ": it " + ours + " what " + piece.name + " on another stream " + theirs +
             ": a wait is missing";
  }
  pieces.push_back({name, line, at, touched});
  return {};
}

void settle(const Past &past) {
  const std::lock_guard guard(pieces_lock);
  pieces.remove_if([&](const Piece &piece) { return past.holds(piece.line, piece.at); });
}

} // namespace sluice::emulation
