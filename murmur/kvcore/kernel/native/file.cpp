#include "file.hpp"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csetjmp>
#include <csignal>
#include <mutex>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace murmur {

namespace {

constexpr size_t READ_LIMIT = 1 << 30;     // one read(2) on Linux returns at most 2 GiB - 4 KiB
constexpr uint64_t START_BYTES = 4 << 20;  // written back while more is being written

BlockingHooks hooks;

int duplicate(int fd, const std::string& path) {
  const int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
  if (copy < 0) throw IoError(errno, path);
  return copy;
}

uint64_t size_of(int fd, const std::string& path) {
  struct stat status;
  if (fstat(fd, &status) < 0) throw IoError(errno, path);
  return static_cast<uint64_t>(status.st_size);
}

/* The way out of a page that is not there. Set only around `copy_guarded`'s memcpy. */
thread_local sigjmp_buf* volatile rescue = nullptr;
thread_local volatile sig_atomic_t forwarding = 0;
struct sigaction former;  // what SIGBUS did before
std::mutex installing;

void on_bus_error(int signal, siginfo_t* info, void* context) {
  if (rescue) siglongjmp(*rescue, 1);
  // Not ours: to whoever was here before. Once only, since they may have been told to come back.
  if (!forwarding && (former.sa_flags & SA_SIGINFO) && former.sa_sigaction) {
    forwarding = 1;
    former.sa_sigaction(signal, info, context);
    forwarding = 0;
  } else if (!forwarding && !(former.sa_flags & SA_SIGINFO) && former.sa_handler != SIG_DFL &&
             former.sa_handler != SIG_IGN) {
    forwarding = 1;
    former.sa_handler(signal);
    forwarding = 0;
  } else {
    // The access is tried again when this returns, and ends the process as it would have.
    struct sigaction standard = {};
    standard.sa_handler = SIG_DFL;
    sigaction(signal, &standard, nullptr);
  }
}

void install_handler(const std::string& path) {
  const std::lock_guard<std::mutex> lock(installing);
  struct sigaction present = {};
  if (sigaction(SIGBUS, nullptr, &present) < 0) throw IoError(errno, path);
  if ((present.sa_flags & SA_SIGINFO) && present.sa_sigaction == on_bus_error) return;
  struct sigaction ours = {};
  ours.sa_sigaction = on_bus_error;
  // Not deferred: leaving by siglongjmp without restoring a mask must not leave SIGBUS blocked.
  ours.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK;
  sigemptyset(&ours.sa_mask);
  former = present;
  if (sigaction(SIGBUS, &ours, nullptr) < 0) throw IoError(errno, path);
}

}  // namespace

void guard_mappings(const std::string& path) { install_handler(path); }

/* Nothing with a destructor may stand between the two ends. */
bool copy_guarded(uint8_t* out, const uint8_t* from, size_t size) {
  sigjmp_buf point;
  if (sigsetjmp(point, 0)) {
    rescue = nullptr;
    return false;
  }
  rescue = &point;
  std::atomic_signal_fence(std::memory_order_seq_cst);
  std::memcpy(out, from, size);
  std::atomic_signal_fence(std::memory_order_seq_cst);
  rescue = nullptr;
  return true;
}

void set_blocking_hooks(BlockingHooks wanted) { hooks = wanted; }

Blocking::Blocking() {
  if (hooks.enter) state_ = hooks.enter();
}

Blocking::~Blocking() {
  if (state_) hooks.leave(state_);
}

void ReadFile::too_short(uint64_t offset, size_t size, size_t got) const {
  throw Corrupt(path_, offset, std::to_string(got) + " bytes are left of " + std::to_string(size));
}

FdReadFile::FdReadFile(int fd, std::string path)
    : ReadFile(std::move(path)), fd_(duplicate(fd, ReadFile::path())) {}

FdReadFile::~FdReadFile() { ::close(fd_); }

void FdReadFile::read(uint64_t offset, size_t size, uint8_t* out) {
  size_t done = 0;
  int error = 0;
  {
    const Blocking blocking;
    while (done < size) {
      const size_t wanted = size - done < READ_LIMIT ? size - done : READ_LIMIT;
      const ssize_t got = ::pread(fd_, out + done, wanted, static_cast<off_t>(offset + done));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) error = errno;
      if (got <= 0) break;
      done += static_cast<size_t>(got);
    }
  }
  if (error) throw IoError(error, path());
  if (done < size) too_short(offset, size, done);
}

uint64_t FdReadFile::size() { return size_of(fd_, path()); }

void FdReadFile::will_need(uint64_t offset, uint64_t size) {
#ifdef POSIX_FADV_WILLNEED
  posix_fadvise(fd_, static_cast<off_t>(offset), static_cast<off_t>(size), POSIX_FADV_WILLNEED);
#else
  (void)offset, (void)size;
#endif
}

MappedReadFile::MappedReadFile(int fd, std::string path) : ReadFile(std::move(path)) {
  install_handler(ReadFile::path());
  size_ = size_of(fd, ReadFile::path());
  if (!size_) return;
  void* mapped = mmap(nullptr, size_, PROT_READ, MAP_SHARED, fd, 0);
  if (mapped == MAP_FAILED) throw IoError(errno, ReadFile::path());
  data_ = static_cast<uint8_t*>(mapped);
  // A get reads one block: what the system reads ahead around it would mostly be in vain.
  madvise(mapped, size_, MADV_RANDOM);
}

MappedReadFile::~MappedReadFile() {
  if (data_) munmap(data_, size_);
}

void MappedReadFile::read(uint64_t offset, size_t size, uint8_t* out) {
  if (offset > size_ || size > size_ - offset)
    too_short(offset, size, offset < size_ ? static_cast<size_t>(size_ - offset) : 0);
  if (!size) return;
  bool whole;
  {
    const Blocking blocking;
    whole = copy_guarded(out, data_ + offset, size);
  }
  if (!whole)
    throw Corrupt(path(), offset, "the file was truncated while it was mapped, or is unreadable");
}

void MappedReadFile::will_need(uint64_t offset, uint64_t size) {
  if (offset >= size_) return;
  const uint64_t start = offset & ~uint64_t{4095};
  if (size > size_ - offset) size = size_ - offset;
  madvise(data_ + start, offset + size - start, MADV_WILLNEED);
}

FdAppendFile::FdAppendFile(int fd, std::string path)
    : AppendFile(std::move(path)), fd_(duplicate(fd, AppendFile::path())) {}

FdAppendFile::~FdAppendFile() {
  if (fd_ >= 0) ::close(fd_);
}

void FdAppendFile::write(const uint8_t* data, size_t size) {
  int error = 0;
  {
    const Blocking blocking;
    for (size_t done = 0; done < size;) {
      const ssize_t written = ::write(fd_, data + done, std::min(size - done, READ_LIMIT));
      if (written < 0 && errno == EINTR) continue;
      if (written <= 0) {  // nought would be a full disk that does not say so
        error = written < 0 ? errno : ENOSPC;
        break;
      }
      done += static_cast<size_t>(written);
    }
  }
  if (error) throw IoError(error, path());
  written_ += size;
#ifdef SYNC_FILE_RANGE_WRITE
  if (written_ - started_ >= START_BYTES) {
    // Begun now, the sync at the end has little left to wait for. Only a hint: errors come there.
    const Blocking blocking;
    sync_file_range(fd_, static_cast<off_t>(started_), static_cast<off_t>(written_ - started_),
                    SYNC_FILE_RANGE_WRITE);
    started_ = written_;
  }
#endif
}

void FdAppendFile::sync() {
  int error = 0;
  {
    const Blocking blocking;
#ifdef F_FULLFSYNC  // macOS: fsync stops at the drive's cache
    if (fcntl(fd_, F_FULLFSYNC) < 0) error = errno;
#else
    if (fdatasync(fd_) < 0) error = errno;
#endif
  }
  if (error) throw IoError(error, path());
}

void FdAppendFile::close() {
  // Forget the number first: it belongs to another file as soon as it is closed.
  const int fd = fd_;
  fd_ = -1;
  if (fd >= 0) ::close(fd);
}

}  // namespace murmur
