#include "core/mapped_file.h"

#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/error.h"

namespace sluice {
namespace {

using ull = unsigned long long;

[[noreturn]] void refuse(const std::string &path, const char *why) {
  throw Error(kStatusIo, format("%s: expected a file that can be read, got: %s", path.c_str(), why),
              path);
}

} // namespace

MappedFile::MappedFile(const std::string &path) : path_(path) {
  // A pipe would block the open for ever without O_NONBLOCK; on a regular file it means nothing.
  descriptor_ = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor_ < 0) refuse(path, strerror(errno));
  struct stat stat {};
  const bool known = fstat(descriptor_, &stat) == 0;
  if (!known || !S_ISREG(stat.st_mode)) {
    const std::string why = known ? "not a regular file" : strerror(errno);
    close(descriptor_);
    refuse(path, why.c_str());
  }
  bytes_ = uint64_t(stat.st_size);
  if (bytes_ == 0) return;
  void *const data = mmap(nullptr, bytes_, PROT_READ, MAP_PRIVATE, descriptor_, 0);
  if (data == MAP_FAILED) {
    const std::string why = strerror(errno);
    close(descriptor_);
    refuse(path, why.c_str());
  }
  data_ = static_cast<const uint8_t *>(data);
}

MappedFile::~MappedFile() {
  if (data_) munmap(const_cast<uint8_t *>(data_), bytes_);
  close(descriptor_);
}

void MappedFile::check_end(uint64_t end) const {
  struct stat stat {};
  if (fstat(descriptor_, &stat) == 0 && uint64_t(stat.st_size) >= end) return;
  throw Error(kStatusIo,
              format("%s: expected %llu bytes or more, got a file that became shorter while in use",
                     path_.c_str(), ull(end)),
              path_);
}

void MappedFile::forget(uint64_t offset, uint64_t bytes) const {
  if (bytes == 0) return;
  const uint64_t page = uint64_t(sysconf(_SC_PAGESIZE));
  const uint64_t begin = offset / page * page;
  madvise(const_cast<uint8_t *>(data_) + begin, offset + bytes - begin, MADV_DONTNEED);
}

} // namespace sluice
