/**
 * @file
 * A read-only memory map of a file.
 */
#pragma once

#include <cstdint>
#include <string>

namespace sluice {

class MappedFile {
 public:
  /** Throws Error (io) where the path is no file that can be read. */
  explicit MappedFile(const std::string &path);
  ~MappedFile();
  MappedFile(const MappedFile &) = delete;
  MappedFile &operator=(const MappedFile &) = delete;

  const std::string &path() const { return path_; }
  uint64_t bytes() const { return bytes_; }
  const uint8_t *data() const { return data_; }

  /** Throws Error (io) when the file is now shorter than `end`: reading the map there would raise
   * SIGBUS. */
  void check_end(uint64_t end) const;
  /** Drops pages from this process; they come back from the page cache when read again. */
  void forget(uint64_t offset, uint64_t bytes) const;

 private:
  std::string path_;
  int descriptor_ = -1;
  uint64_t bytes_ = 0;
  const uint8_t *data_ = nullptr;
};

} // namespace sluice
