// Random commands through a queue, on its streams and as graphs, beside the same commands one by
// one; and bytes through the staging buffers. One line a case and seed of the schedule, as `name
// seed: bits`.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "core/backend.h"
#include "segments.hpp"

extern "C" const sluice_backend *sluice_backend_init(void);

namespace sluice::test {
namespace {

const sluice_backend &backend() { return *sluice_backend_init(); }

/** Sixteen digits of what the bytes are. */
std::string digest(const std::vector<uint8_t> &bytes) {
  uint64_t hash = 0xcbf29ce484222325ull;
  for (const uint8_t byte : bytes) hash = (hash ^ byte) * 0x100000001b3ull;
  char text[17];
  std::snprintf(text, sizeof text, "%016llx", (unsigned long long)(hash));
  return text;
}

class Block {
 public:
  Block(uint64_t bytes, bool host) : bytes_(bytes) {
    char text[512] = "";
    const uint64_t granule = uint64_t(2) << 20;
    const uint64_t whole = host ? bytes : (bytes + granule - 1) / granule * granule;
    if (backend().block_create(0, whole, host, &block_, text, sizeof text) == SLUICE_OK) return;
    std::printf("block: %s\n", text);
    std::exit(1);
  }
  ~Block() { backend().block_destroy(block_); }
  void *address() const { return backend().block_address(block_); }
  void write(const std::vector<uint8_t> &from) {
    backend().block_write(block_, 0, from.data(), from.size());
  }
  void fill(uint64_t begin, uint64_t bytes, uint8_t value) {
    backend().block_fill(block_, begin, bytes, value);
  }
  void read_to(std::vector<uint8_t> &out) const {
    std::vector<uint8_t> bytes(bytes_);
    backend().block_read(block_, 0, bytes.data(), bytes_);
    out.insert(out.end(), bytes.begin(), bytes.end());
  }

 private:
  sluice_block *block_ = nullptr;
  uint64_t bytes_;
};

std::vector<uint8_t> floats(uint32_t seed) {
  std::vector<float> values(kPlaces * kChannels);
  std::mt19937 random(seed);
  for (float &value : values) value = float(random() % 2000) / 500.0f - 2.0f;
  std::vector<uint8_t> bytes(values.size() * 4);
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

struct Run {
  Block arena{kPlaces * kPlaceBytes, false}, host{kPlaces * kPlaceBytes, true};
  std::vector<uint8_t> bytes;
  int status = SLUICE_OK;
  char text[2048] = "";
  std::string said() const { return status == SLUICE_OK ? digest(bytes) : text; }
};

/** Commands from the same numbers in every round, by the segment or each one waited for; what they
 * leave is added to `run`. */
void execute(Run &run, sluice_queue *queue, const Commands &commands, uint32_t round,
             bool one_by_one) {
  void *bases[kSlots] = {run.arena.address(), nullptr, run.host.address()};
  run.arena.write(floats(round));
  run.host.write(floats(round + 10));
  const int32_t *at = commands.words().data();
  int64_t nanoseconds = 0;
  const auto finish = [&] {
    if (run.status == SLUICE_OK)
      run.status = backend().finish(queue, &nanoseconds, run.text, sizeof run.text);
  };
  for (int32_t left = commands.count(); left > 0 && run.status == SLUICE_OK;) {
    int32_t taken = 0;
    const uint8_t stop = 0;
    run.status = backend().submit(queue, at, one_by_one ? 1 : left, bases, &stop, &taken, run.text,
                                  sizeof run.text);
    for (int32_t i = 0; i < taken; ++i) at += reinterpret_cast<const Header *>(at)->words;
    left -= taken;
    if (one_by_one) finish();
  }
  finish();
  run.arena.read_to(run.bytes);
  run.host.read_to(run.bytes);
}

/** Commands one after another on one queue; those met before as graphs. */
std::string run(const std::vector<const Commands *> &all, bool one_by_one) {
  Run run;
  sluice_queue *queue = nullptr;
  run.status = backend().queue_create(0, 1, &queue, run.text, sizeof run.text);
  for (uint32_t round = 0; round < all.size() && run.status == SLUICE_OK; ++round)
    execute(run, queue, *all[round], round, one_by_one);
  backend().queue_destroy(queue);
  return run.said();
}

void compare(const std::string &name, const char *seed, const std::vector<const Commands *> &all) {
  const std::string said = run(all, false), expected = run(all, true);
  std::printf("%s %s: %s\n", name.c_str(), seed,
              said.size() != 16 || said == expected ? said.c_str() : "unlike one by one");
  std::fflush(stdout);
}

std::string transferred() {
  constexpr uint64_t kBytes = (uint64_t(9) << 20) + 64; // more than the two buffers hold
  std::vector<uint8_t> sent(kBytes), received;
  std::mt19937 random(1);
  for (uint8_t &byte : sent) byte = uint8_t(random());
  Block block(kBytes, false);
  block.write(sent);
  block.read_to(received);
  block.fill(kBytes / 2, kBytes / 2, 0x5a);
  block.read_to(received);
  return digest(received);
}

} // namespace
} // namespace sluice::test

int main(int count, char **arguments) {
  using namespace sluice::test;
  for (int i = 1; i < count; ++i) {
    setenv("SLUICE_EMULATION_SEED", arguments[i], 1);
    for (uint32_t one = 0; one < 12; ++one) {
      const Commands commands(one, 20 + int32_t(one) * 15);
      compare("streams, commands " + std::to_string(one), arguments[i],
              {&commands, &commands, &commands});
    }
    // Their last segments are the same: the second's is a graph when its first is not.
    const Commands first = Commands::with_long_copy(63, 2),
                   second = Commands::with_long_copy(63, 3);
    compare("a copy longer than a segment", arguments[i], {&first, &second, &first});
    std::printf("transfer %s: %s\n", arguments[i], transferred().c_str());
  }
  return 0;
}
