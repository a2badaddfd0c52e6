#include "core/packing.h"

#include <algorithm>
#include <cstring>

#include "core/error.h"
#include "core/ranges.h"
#include "core/thread_pool.h"
#include "core/tile_pool.h"

namespace sluice {
namespace {

using ull = unsigned long long;

std::string broken_rule(const PackJob &job) {
  constexpr int64_t kMaxAxis = int64_t(1) << 40;
  if (uint32_t(job.form) > uint32_t(PackForm::panel_phases)) {
    return format("form: expected 0 to 5, got %d", int(job.form));
  }
  const bool pairs = job.form == PackForm::panel_pairs || job.form == PackForm::vector_pairs;
  if (uint32_t(job.dtype) > uint32_t(DType::bf16)) {
    return format("dtype: expected 0 to 2, got %d", int(job.dtype));
  }
  for (const int64_t axis : {job.outputs, job.inputs, job.taps}) {
    if (axis < 1 || axis > kMaxAxis)
      return format("shape: expected axes of 1 or more, got %lld", (long long)axis);
  }
  if (pairs && job.outputs % 2) {
    return format("outputs: expected an even number for pairs, got %lld", (long long)job.outputs);
  }
  if (job.form == PackForm::vector_pairs && (job.inputs != 1 || job.taps != 1)) {
    return "shape: expected one axis for a vector of pairs";
  }
  if (job.form == PackForm::panel_phases && job.taps != 9) {
    return format("taps: expected 9 for phases, got %lld", (long long)job.taps);
  }
  const uint64_t depth = saturating_mul(uint64_t(job.inputs), uint64_t(job.taps));
  const uint64_t needed =
      saturating_mul(saturating_mul(uint64_t(job.outputs), depth), dtype_bytes(job.dtype));
  if (job.source_bytes != needed) {
    return format("sourceBytes: expected %llu for its shape and dtype, got %llu", ull(needed),
                  ull(job.source_bytes));
  }
  const uint64_t file = job.file ? job.file->bytes() : job.values.size();
  if (job.source_offset > file || job.source_bytes > file - job.source_offset) {
    return format("source: expected a range inside the source's %llu bytes, got %llu bytes at %llu",
                  ull(file), ull(job.source_bytes), ull(job.source_offset));
  }
  return {};
}

std::string broken_destination(const PackJob &job, uint64_t block_bytes) {
  const uint64_t size = packed_bytes(job);
  if (job.destination % 4 || job.destination > block_bytes ||
      size > block_bytes - job.destination) {
    return format(
        "destination: expected a multiple of 4 with %llu bytes left in the block's %llu, "
        "got %llu",
        ull(size), ull(block_bytes), ull(job.destination));
  }
  return {};
}

} // namespace

/** Host memory that some jobs go through, freed with this object. */
class Staging {
 public:
  explicit Staging(uint64_t bytes) : bytes_(round_up(bytes, kTileBytes)) {
    if (bytes == 0) return;
    data_ = static_cast<uint8_t *>(tiles_map(bytes_));
    if (!data_) {
      throw Error(SLUICE_OUT_OF_MEMORY,
                  format("pack: expected %llu bytes to stage a weight, got none", ull(bytes_)));
    }
    pool_add(bytes_);
  }
  ~Staging() {
    if (!data_) return;
    tiles_unmap(data_, bytes_);
    pool_remove(bytes_);
  }
  Staging(const Staging &) = delete;
  Staging &operator=(const Staging &) = delete;
  uint8_t *data() const { return data_; }

 private:
  uint64_t bytes_;
  uint8_t *data_ = nullptr;
};

namespace {

/** A session of the thread pool, closed whatever happens. */
struct Session {
  Session() { ThreadPool::instance().open_session(); }
  ~Session() { ThreadPool::instance().close_session(); }
};

int pack_share(void *context, int32_t thread, int32_t threads) {
  kernels().pack(*static_cast<const PackSource *>(context), thread, threads);
  return SLUICE_OK;
}

/** Kernels read whole elements; a header of odd length in a file leaves its tensors between them.
 */
bool is_aligned(const PackJob &job) { return job.source_offset % dtype_bytes(job.dtype) == 0; }

} // namespace

uint64_t packed_bytes(const PackJob &job) {
  const uint64_t outputs = uint64_t(job.outputs);
  const uint64_t depth = saturating_mul(uint64_t(job.inputs), uint64_t(job.taps));
  const uint64_t size = dtype_bytes(job.dtype);
  switch (job.form) {
    case PackForm::raw:
      return saturating_mul(saturating_mul(outputs, depth), size);
    case PackForm::vector:
      return saturating_mul(saturating_mul(outputs, depth), 4);
    case PackForm::panel:
      return saturating_mul(saturating_mul(ceil16(outputs), depth), size);
    case PackForm::panel_pairs:
      return saturating_mul(saturating_mul(2 * ceil16(outputs / 2), depth), size);
    case PackForm::vector_pairs:
      return 2 * ceil16(outputs / 2) * 4;
    case PackForm::panel_phases:
      return saturating_mul(saturating_mul(ceil16(outputs), uint64_t(job.inputs)),
                            kPhases * kPhaseTaps * sizeof(float));
  }
  return UINT64_MAX;
}

void check_jobs(const std::vector<PackJob> &jobs) {
  for (size_t i = 0; i < jobs.size(); ++i) {
    const std::string broken = broken_rule(jobs[i]);
    if (!broken.empty()) throw Error(kStatusArgument, format("pack: job %zu, ", i) + broken);
  }
}

Packer::Packer(const std::vector<PackJob> &jobs) {
  uint64_t bytes = 0;
  for (const PackJob &job : jobs) {
    if (!is_aligned(job)) bytes = std::max(bytes, job.source_bytes);
  }
  aligned_ = std::make_unique<Staging>(bytes);
}

Packer::~Packer() = default;

void Packer::pack(const PackJob &job, void *destination, int32_t threads) {
  if (job.file) job.file->check_end(job.source_offset + job.source_bytes);
  const uint8_t *source = (job.file ? job.file->data() : job.values.data()) + job.source_offset;
  if (!is_aligned(job)) {
    memcpy(aligned_->data(), source, job.source_bytes);
    source = aligned_->data();
  }
  PackSource work{source, job.dtype, job.form, job.outputs, job.inputs, job.taps, destination};
  ThreadPool::instance().run(threads, pack_share, &work);
  if (job.file) job.file->forget(job.source_offset, job.source_bytes);
}

Packing::Packing(std::shared_ptr<Block> block, std::vector<PackJob> jobs, int32_t threads)
    : block_(std::move(block)), jobs_(std::move(jobs)), threads_(threads) {
  check_jobs(jobs_);
  for (size_t i = 0; i < jobs_.size(); ++i) {
    const std::string broken = broken_destination(jobs_[i], block_->bytes());
    if (!broken.empty()) throw Error(kStatusArgument, format("pack: job %zu, ", i) + broken);
  }
}

uint64_t Packing::execute(Control &control) {
  const bool on_host = block_->device().is_cpu() || block_->on_host();
  uint64_t packed_stage = 0;
  for (const PackJob &job : jobs_) {
    if (!on_host) packed_stage = std::max(packed_stage, packed_bytes(job));
  }
  Packer packer(jobs_);
  const Staging packed(packed_stage);
  const Session session;
  const ThreadPool::Row row;

  uint64_t written = 0;
  for (size_t i = 0; i < jobs_.size(); ++i) {
    if (control.aborted()) {
      throw Error(SLUICE_ABORTED,
                  format("pack: aborted after %zu of %zu weights", i, jobs_.size()));
    }
    const PackJob &job = jobs_[i];
    const uint64_t bytes = packed_bytes(job);
    packer.pack(
        job, on_host ? static_cast<uint8_t *>(block_->address()) + job.destination : packed.data(),
        threads_);
    if (!on_host) block_->write(job.destination, packed.data(), bytes);
    written += bytes;
    control.report(int64_t(i) + 1);
  }
  return written;
}

} // namespace sluice
