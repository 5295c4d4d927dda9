/* A file's bytes where they lie in the system's page cache.
 *
 * They are those of the file at the moment of reading, whatever happens to it: so who relies on them
 * has verified them once (a block's checksum, when it enters the cache), and asks `whole` after each
 * reading. A file that was truncated has lost its last bytes: either their page is gone, or the
 * system has filled its rest with zeros. So one look at these, which never changes else, tells.
 *
 * Invariant: reading within the file never ends the process.
 */
#pragma once

#include <memory>

#include "common.hpp"
#include "guard.hpp"

namespace murmur {

class MappedFile {
 public:
  /* None if the system has no map for it, or a truncation could not be seen. */
  static std::shared_ptr<const MappedFile> open(int fd, const std::string& path);
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const uint8_t* data() const { return bytes_.data; }
  uint64_t size() const { return bytes_.size; }
  const std::string& path() const { return path_; }

  /* Whether nothing that was read before was missing: the file was not cut, and no page lost. */
  bool whole() const {
    std::atomic_thread_fence(std::memory_order_acquire);  // look at the end after the reading
    return load<uint64_t>(end_) == seal_ && !pages_.lost_any();
  }
  /* Whether a page of these bytes was lost. */
  bool lost(const uint8_t* begin, size_t size) const { return pages_.lost(begin, size); }

  /* Whether these bytes are in memory, so that touching them waits for no disk. Asked once for
   * their neighbourhood: what the system takes back later is not noticed. */
  bool resident(uint64_t offset, size_t size) const;

 private:
  struct Bytes {
    const uint8_t* data;
    uint64_t size;
    ~Bytes();
  };
  explicit MappedFile(Slice bytes, const std::string& path);
  bool ask(uint64_t window, uint64_t begin, uint64_t end) const;

  const Bytes bytes_;         // first: unmapped when nobody guards them any more
  const uint8_t* const end_;  // where the last eight of them stand
  uint64_t seal_ = 0;         // what they were
  const std::string path_;
  const GuardedPages pages_;
  const std::unique_ptr<std::atomic<bool>[]> resident_;  // by window
};

/* Bytes of a mapped file, and their checksum. */
struct MappedBytes {
  std::shared_ptr<const MappedFile> file;  // or nothing
  const uint8_t* data = nullptr;
  uint32_t size = 0;
  uint32_t crc = 0;

  /* Corrupt if what was read of them may be other than what was verified. */
  void verify() const {
    if (file && !file->whole()) verify_all();
  }
  /* The same, after looking at all of them again: also if somebody has changed them. */
  void verify_all() const;
};

}  // namespace murmur
