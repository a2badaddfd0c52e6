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

/** Three runs, the last ones as graphs. `at_once`: commands that one call may take; 1 and waited
 * for: one by one. */
std::string run(const Commands &commands, bool one_by_one) {
  Block arena(kPlaces * kPlaceBytes, false), host(kPlaces * kPlaceBytes, true);
  void *bases[kSlots] = {arena.address(), nullptr, host.address()};
  std::vector<uint8_t> bytes;
  sluice_queue *queue = nullptr;
  char text[2048] = "";
  int status = backend().queue_create(0, 1, &queue, text, sizeof text);
  for (uint32_t round = 0; round < 3 && status == SLUICE_OK; ++round) {
    arena.write(floats(round));
    host.write(floats(round + 10));
    const int32_t *at = commands.words().data();
    for (int32_t left = commands.count(); left > 0 && status == SLUICE_OK;) {
      int32_t taken = 0;
      const uint8_t stop = 0;
      status = backend().submit(queue, at, one_by_one ? 1 : left, bases, &stop, &taken, text,
                                sizeof text);
      for (int32_t i = 0; i < taken; ++i) at += reinterpret_cast<const Header *>(at)->words;
      left -= taken;
      int64_t nanoseconds = 0;
      if (one_by_one && status == SLUICE_OK)
        status = backend().finish(queue, &nanoseconds, text, sizeof text);
    }
    int64_t nanoseconds = 0;
    if (status == SLUICE_OK) status = backend().finish(queue, &nanoseconds, text, sizeof text);
    arena.read_to(bytes);
    host.read_to(bytes);
  }
  backend().queue_destroy(queue);
  return status == SLUICE_OK ? digest(bytes) : text;
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
      const std::string said = run(commands, false), expected = run(commands, true);
      std::printf("streams, commands %u %s: %s\n", one, arguments[i],
                  said.size() != 16 || said == expected ? said.c_str() : "unlike one by one");
      std::fflush(stdout);
    }
    std::printf("transfer %s: %s\n", arguments[i], transferred().c_str());
  }
  return 0;
}
