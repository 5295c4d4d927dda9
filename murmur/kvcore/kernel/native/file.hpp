/* Files: read at an offset, append, sync. Implemented on a descriptor, on a mapping of it, and by
 * the binding for storage that is not a disk's.
 *
 *   FdReadFile       pread(2)
 *   MappedReadFile   mmap(2); a page that is gone because the file was truncated raises Corrupt
 *   FdAppendFile     write(2), in full or IoError; sync is fdatasync(2)
 *
 * A call that may wait for the disk lies in a Blocking section, where the binding may let other
 * threads run: it does so when its lock is held, and takes the lock again afterwards. So whoever
 * calls `read` must not hold a lock that a thread holding the binding's lock may wait for.
 *
 * Invariant: `read` fills all of the buffer or throws; a failed `write` may leave a prefix.
 */
#pragma once

#include <memory>

#include "common.hpp"

namespace murmur {

/* How the binding lets others run: `enter` returns what `leave` needs, or nullptr if there is
 * nothing to undo. */
struct BlockingHooks {
  void* (*enter)() = nullptr;
  void (*leave)(void* state) = nullptr;
};
void set_blocking_hooks(BlockingHooks hooks);

class Blocking {
 public:
  Blocking();
  ~Blocking();
  Blocking(const Blocking&) = delete;
  Blocking& operator=(const Blocking&) = delete;

 private:
  void* state_ = nullptr;
};

class ReadFile {
 public:
  explicit ReadFile(std::string path) : path_(std::move(path)) {}
  virtual ~ReadFile() = default;
  ReadFile(const ReadFile&) = delete;
  ReadFile& operator=(const ReadFile&) = delete;

  /* Exactly these bytes; Corrupt if the file ends before. For any thread. */
  virtual void read(uint64_t offset, size_t size, uint8_t* out) = 0;
  virtual uint64_t size() = 0;
  /* A hint that these bytes are wanted soon, in order. */
  virtual void will_need(uint64_t offset, uint64_t size) { (void)offset, (void)size; }
  const std::string& path() const { return path_; }

 protected:
  [[noreturn]] void too_short(uint64_t offset, size_t size, size_t got) const;

 private:
  std::string path_;
};

class AppendFile {
 public:
  explicit AppendFile(std::string path) : path_(std::move(path)) {}
  virtual ~AppendFile() = default;
  AppendFile(const AppendFile&) = delete;
  AppendFile& operator=(const AppendFile&) = delete;

  virtual void write(const uint8_t* data, size_t size) = 0;
  virtual void sync() = 0;   // what was written so far is durable, or IoError
  virtual void close() = 0;  // does not sync; closing again does nothing
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

class FdReadFile final : public ReadFile {
 public:
  /* Duplicates the descriptor, and closes the copy in the end. */
  FdReadFile(int fd, std::string path);
  ~FdReadFile() override;
  void read(uint64_t offset, size_t size, uint8_t* out) override;
  uint64_t size() override;
  void will_need(uint64_t offset, uint64_t size) override;

 private:
  int fd_;
};

class MappedReadFile final : public ReadFile {
 public:
  /* Maps the whole file; the descriptor is not needed afterwards. */
  MappedReadFile(int fd, std::string path);
  ~MappedReadFile() override;
  void read(uint64_t offset, size_t size, uint8_t* out) override;
  uint64_t size() override { return size_; }
  void will_need(uint64_t offset, uint64_t size) override;

 private:
  uint8_t* data_ = nullptr;
  uint64_t size_ = 0;
};

class FdAppendFile final : public AppendFile {
 public:
  FdAppendFile(int fd, std::string path);  // duplicates the descriptor
  ~FdAppendFile() override;
  void write(const uint8_t* data, size_t size) override;
  void sync() override;
  void close() override;

 private:
  int fd_;
};

}  // namespace murmur
