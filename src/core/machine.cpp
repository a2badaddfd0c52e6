#include "core/machine.h"

#include <chrono>

#include "core/error.h"
#include "core/thread_pool.h"

namespace sluice {
namespace {

using ull = unsigned long long;

[[noreturn]] void refuse(const std::string &message) {
  throw Error(kStatusArgument, "run: " + message);
}

} // namespace

Run::Run(std::shared_ptr<const Stream> stream, std::shared_ptr<Block> arena,
         std::shared_ptr<Block> weights, Outside outside, std::vector<uint64_t> bindings,
         int32_t threads)
    : stream_(std::move(stream)),
      arena_(std::move(arena)),
      weights_(std::move(weights)),
      outside_(std::move(outside)),
      bindings_(std::move(bindings)),
      threads_(threads) {
  check();
  bases_.assign(stream_->slot_bytes().size(), nullptr);
  char *const base = static_cast<char *>(arena_->address());
  bases_[kSlotArena] = base;
  bases_[kSlotWeights] = weights_ ? weights_->address() : nullptr;
  bases_[kSlotHost] = outside_.host ? outside_.host->address() : nullptr;
  if (stream_->fetches()) packer_ = std::make_unique<Packer>(*outside_.fetched);
  for (size_t i = 0; i < bindings_.size(); ++i) bases_[kSlotBound + i] = base + bindings_[i];

  if (arena_->running.exchange(true))
    refuse("expected an arena of its own, got one in use by another run");
  char error[512] = "";
  const Device &device = stream_->device();
  const int status =
      device.backend->queue_create(device.index, threads_, &queue_, error, sizeof error);
  if (status != SLUICE_OK) {
    arena_->running = false;
    throw Error(status, format("run: %s", error));
  }
}

Run::~Run() {
  stream_->device().backend->queue_destroy(queue_);
  arena_->running = false;
}

void Run::check() const {
  const std::vector<uint64_t> &slots = stream_->slot_bytes();
  const std::string device = stream_->device().id();
  if (arena_->device().id() != device || (weights_ && weights_->device().id() != device)) {
    refuse(format("expected blocks of device %s, which the stream is for", device.c_str()));
  }
  if (arena_->bytes() < slots[kSlotArena]) {
    refuse(format("arena: expected %llu bytes or more, got %llu", ull(slots[kSlotArena]),
                  ull(arena_->bytes())));
  }
  if ((weights_ ? weights_->bytes() : 0) < slots[kSlotWeights]) {
    refuse(format("weights: expected %llu bytes or more, got %llu", ull(slots[kSlotWeights]),
                  ull(weights_ ? weights_->bytes() : 0)));
  }
  const Block *const host = outside_.host.get();
  if (host && (host->device().id() != device || !(host->on_host() || host->device().is_cpu()))) {
    refuse(format("host: expected host memory for device %s", device.c_str()));
  }
  if ((host ? host->bytes() : 0) < slots[kSlotHost]) {
    refuse(format("host: expected %llu bytes or more, got %llu", ull(slots[kSlotHost]),
                  ull(host ? host->bytes() : 0)));
  }
  check_fetches();
  if (bindings_.size() != slots.size() - kSlotBound) {
    refuse(format("bindings: expected %zu, got %zu", slots.size() - kSlotBound, bindings_.size()));
  }
  for (size_t i = 0; i < bindings_.size(); ++i) {
    const uint64_t bytes = slots[kSlotBound + i], limit = arena_->bytes();
    if (bindings_[i] % 4 == 0 && bindings_[i] <= limit && bytes <= limit - bindings_[i]) continue;
    refuse(
        format("bindings[%zu]: expected a multiple of 4 that leaves %llu bytes in the arena's "
               "%llu, got %llu",
               i, ull(bytes), ull(limit), ull(bindings_[i])));
  }
  stream_->check_threads(threads_);
}

/** Each weight that the stream fetches is in the list, and as large as the stream says. */
void Run::check_fetches() const {
  if (!stream_->fetches()) return;
  if (!stream_->device().is_cpu()) refuse("fetch: expected device cpu, whose memory is the host's");
  const size_t count = outside_.fetched ? outside_.fetched->size() : 0;
  for (int32_t i = 0; i < stream_->commands(); ++i) {
    const Header &command = stream_->command(i);
    if (command.opcode != Opcode::fetch) continue;
    const auto &fetch = reinterpret_cast<const FetchCommand &>(command);
    if (size_t(fetch.weight) >= count) {
      refuse(format("%s: expected a weight below %zu, got %d", describe(i, command).c_str(), count,
                    fetch.weight));
    }
    const uint64_t bytes = packed_bytes((*outside_.fetched)[size_t(fetch.weight)]);
    if (bytes > uint64_t(fetch.halves) * 2) {
      refuse(format("%s: expected room for %llu bytes, got %llu", describe(i, command).c_str(),
                    ull(bytes), ull(uint64_t(fetch.halves) * 2)));
    }
  }
}

int Run::submit(int32_t first, Control &control, int32_t *taken, char *error, size_t capacity) {
  const Header &command = stream_->command(first);
  if (command.opcode == Opcode::fetch) {
    const auto &fetch = reinterpret_cast<const FetchCommand &>(command);
    packer_->pack((*outside_.fetched)[size_t(fetch.weight)],
                  static_cast<char *>(bases_[fetch.out.slot]) + fetch.out.offset(), threads_);
    *taken = 1;
    return SLUICE_OK;
  }
  const sluice_backend &backend = *stream_->device().backend;
  return backend.submit(queue_, reinterpret_cast<const int32_t *>(&command),
                        stream_->commands() - first, bases_.data(), control.stop(), taken, error,
                        capacity);
}

RunResult Run::execute(Control &control) {
  const sluice_backend &backend = *stream_->device().backend;
  const int32_t commands = stream_->commands();
  char error[512] = "";
  const auto started = std::chrono::steady_clock::now();
  const ThreadPool::Row row;

  int32_t done = 0;
  int status = SLUICE_OK;
  while (done < commands && status == SLUICE_OK) {
    if (control.aborted()) {
      status = SLUICE_ABORTED;
      break;
    }
    int32_t taken = 0;
    status = submit(done, control, &taken, error, sizeof error);
    done += taken;
    if (status == SLUICE_OK) control.report(done);
  }
  // Also after an abort: what was submitted still uses the arena.
  char finish_error[512] = "";
  int64_t nanoseconds = 0;
  const int finished = backend.finish(queue_, &nanoseconds, finish_error, sizeof finish_error);

  if (status == SLUICE_ABORTED) {
    throw Error(status, format("run: aborted after %d of %d commands", done, commands));
  }
  if (status != SLUICE_OK) {
    throw Error(status,
                format("run: %s: %s", describe(done, stream_->command(done)).c_str(), error));
  }
  if (finished != SLUICE_OK) throw Error(finished, format("run: %s", finish_error));

  if (nanoseconds == 0) {
    const auto elapsed = std::chrono::steady_clock::now() - started;
    nanoseconds = std::chrono::duration_cast<std::chrono::nanoseconds>(elapsed).count();
  }
  return {commands, stream_->high_water(commands, threads_, bindings_.data()), nanoseconds};
}

} // namespace sluice
