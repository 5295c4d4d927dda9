#include "mapped.hpp"

#include <algorithm>

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "crc32.hpp"

namespace murmur {

namespace {

constexpr uint64_t WINDOW = 64 << 10;  // what the system is asked about at once
constexpr uint64_t SMALLEST_PAGE = 4096;
const uint64_t PAGE = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));

#if defined(__APPLE__)
using Residence = char;
#else
using Residence = unsigned char;
#endif

}  // namespace

MappedFile::Bytes::~Bytes() { munmap(const_cast<uint8_t*>(data), size); }

std::shared_ptr<const MappedFile> MappedFile::open(int fd, const std::string& path) {
  struct stat status;
  if (fstat(fd, &status) < 0 || status.st_size < 8) return nullptr;
  const uint64_t size = static_cast<uint64_t>(status.st_size);
  void* mapped = mmap(nullptr, size, PROT_READ, MAP_SHARED, fd, 0);
  if (mapped == MAP_FAILED) return nullptr;
  // A get reads one block: what the system reads ahead around it would mostly be in vain.
  madvise(mapped, size, MADV_RANDOM);
  const std::shared_ptr<MappedFile> made(
      new MappedFile({static_cast<const uint8_t*>(mapped), size}, path));
  uint8_t last[8];
  if (!copy_guarded(last, made->end_, sizeof last) || !last[7]) return nullptr;
  made->seal_ = load<uint64_t>(last);
  return made;
}

MappedFile::MappedFile(Slice bytes, const std::string& path)
    : bytes_{bytes.data, bytes.size},
      end_(bytes.data + bytes.size - 8),
      path_(path),
      pages_(bytes.data, bytes.size, path),
      resident_(new std::atomic<bool>[(bytes.size + WINDOW - 1) / WINDOW]()) {}

bool MappedFile::resident(uint64_t offset, size_t size) const {
  const uint64_t end = offset + size;
  for (uint64_t at = offset / WINDOW; at * WINDOW < end; at++)
    if (!resident_[at].load(std::memory_order_relaxed) && !ask(at, offset, end)) return false;
  return true;
}

bool MappedFile::ask(uint64_t window, uint64_t begin, uint64_t end) const {
  const uint64_t first = window * WINDOW;
  const uint64_t length = std::min(WINDOW, bytes_.size - first);
  Residence pages[WINDOW / SMALLEST_PAGE];
  if (mincore(const_cast<uint8_t*>(bytes_.data) + first, length, pages) < 0) return false;
  bool all = true;
  for (uint64_t at = 0; at * PAGE < length; at++) {
    if (pages[at] & 1) continue;
    const uint64_t page = first + at * PAGE;
    if (page < end && page + PAGE > begin) return false;
    all = false;
  }
  if (all) resident_[window].store(true, std::memory_order_relaxed);
  return true;
}

void MappedBytes::verify_all() const {
  if (!file) return;
  const uint32_t found = crc32(0, data, size);  // first: this may find that a page is gone
  if (found == crc && !file->lost(data, size)) return;
  throw Corrupt(file->path(), static_cast<uint64_t>(data - file->data()),
                file->whole() ? "the block was changed while the file was mapped"
                              : "the file was truncated while it was mapped, or is unreadable");
}

}  // namespace murmur
