#include "file.hpp"

#include <algorithm>
#include <cerrno>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace murmur {

namespace {

constexpr size_t READ_LIMIT = 1 << 30;     // one read(2) on Linux returns at most 2 GiB - 4 KiB
constexpr size_t COPY_LIMIT = 64 << 10;    // more is read by a system call
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

}  // namespace

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

FdReadFile::FdReadFile(int fd, std::string path, bool map)
    : ReadFile(std::move(path)),
      fd_(duplicate(fd, ReadFile::path())) {
  if (!map) return;
  try {
    mapped_ = MappedFile::open(fd_, ReadFile::path());
  } catch (...) {
    ::close(fd_);
    throw;
  }
}

FdReadFile::~FdReadFile() { ::close(fd_); }

/* From the mapping, if nobody has to wait for that: a system call takes longer than the copy. */
bool FdReadFile::copy(uint64_t offset, size_t size, uint8_t* out) {
  if (!mapped_ || size > COPY_LIMIT || offset > mapped_->size() ||
      size > mapped_->size() - offset || !mapped_->resident(offset, size))
    return false;
  guard_mappings(path());
  const Blocking blocking;  // the system may have taken it back since
  return copy_guarded(out, mapped_->data() + offset, size) && mapped_->whole();
}

void FdReadFile::read(uint64_t offset, size_t size, uint8_t* out) {
  if (copy(offset, size, out)) return;
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
