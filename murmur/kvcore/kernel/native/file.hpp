/* Files: read at an offset, append, sync. Implemented on a descriptor, and by the binding for storage
 * that is not a disk's.
 *
 *   FdReadFile       pread(2), or a copy of what is mapped and in memory
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
#include "guard.hpp"
#include "mapped.hpp"

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
  /* Where its bytes lie in memory, if it is mapped. */
  virtual std::shared_ptr<const MappedFile> mapped() const { return nullptr; }
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
  /* Duplicates the descriptor, and closes the copy in the end. `map`: if the system can. */
  FdReadFile(int fd, std::string path, bool map = false);
  ~FdReadFile() override;
  void read(uint64_t offset, size_t size, uint8_t* out) override;
  uint64_t size() override;
  void will_need(uint64_t offset, uint64_t size) override;
  std::shared_ptr<const MappedFile> mapped() const override { return mapped_; }

 private:
  bool copy(uint64_t offset, size_t size, uint8_t* out);

  const int fd_;
  std::shared_ptr<const MappedFile> mapped_;
};

/* Files of the binding: functions that return 0, or, their error waiting with the binding, -1. */
struct ReadCallbacks {
  void* file;
  int (*read)(void* file, uint64_t offset, size_t size, uint8_t* out, size_t* got);
  int (*size)(void* file, uint64_t* size);
  void (*drop)(void* file);  // it is not needed any more
};

class CallbackReadFile final : public ReadFile {
 public:
  CallbackReadFile(ReadCallbacks callbacks, std::string path)
      : ReadFile(std::move(path)), callbacks_(callbacks) {}
  ~CallbackReadFile() override { callbacks_.drop(callbacks_.file); }
  void read(uint64_t offset, size_t size, uint8_t* out) override {
    size_t got = 0;
    if (callbacks_.read(callbacks_.file, offset, size, out, &got)) throw Raised();
    if (got != size) too_short(offset, size, got);
  }
  uint64_t size() override {
    uint64_t size = 0;
    if (callbacks_.size(callbacks_.file, &size)) throw Raised();
    return size;
  }

 private:
  const ReadCallbacks callbacks_;
};

struct AppendCallbacks {
  void* file;
  int (*write)(void* file, const uint8_t* data, size_t size);
  int (*sync)(void* file);
  int (*close)(void* file);
  void (*drop)(void* file);
};

class CallbackAppendFile final : public AppendFile {
 public:
  CallbackAppendFile(AppendCallbacks callbacks, std::string path)
      : AppendFile(std::move(path)), callbacks_(callbacks) {}
  ~CallbackAppendFile() override { callbacks_.drop(callbacks_.file); }
  void write(const uint8_t* data, size_t size) override {
    if (callbacks_.write(callbacks_.file, data, size)) throw Raised();
  }
  void sync() override {
    if (callbacks_.sync(callbacks_.file)) throw Raised();
  }
  void close() override {
    if (callbacks_.close(callbacks_.file)) throw Raised();
  }

 private:
  const AppendCallbacks callbacks_;
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
  uint64_t written_ = 0;
  uint64_t started_ = 0;  // of those, the system was told to write them to the disk
};

}  // namespace murmur
