#include "log.hpp"

#include <algorithm>
#include <cerrno>

#include <sys/mman.h>

#include "crc32.hpp"
#include "file.hpp"

namespace murmur {

namespace {

constexpr uint8_t MARKER[4] = {0xf5, 0x1a, 'L', 'g'};
constexpr size_t CHECKED_AT = 8;
constexpr size_t KEEP_SCRATCH = 1 << 20;  // what a large batch took is given back
constexpr size_t PART = 64 << 10;         // of a long record, stored at once
constexpr size_t PAGE = 4 << 10;
constexpr uint64_t MUCH = 256 << 10;      // to be appended between two syncs

bool before(const Origin& origin, const uint8_t* replica) {
  return std::memcmp(origin.replica, replica, sizeof origin.replica) < 0;
}

void begin_frame(uint8_t* frame, uint8_t kind, uint64_t durable, size_t length) {
  std::memcpy(frame, MARKER, sizeof MARKER);
  store_big_u32(frame + 8, static_cast<uint32_t>(length));
  frame[12] = kind;
  store_big_u64(frame + 13, durable);
}

}  // namespace

void seal_frame(uint8_t* frame, uint8_t kind, uint64_t durable, uint64_t position, size_t length) {
  begin_frame(frame, kind, durable, length);
  const uint32_t crc = crc32(static_cast<uint32_t>(position), frame + CHECKED_AT,
                             FRAME_SIZE - CHECKED_AT + length);
  store_big_u32(frame + 4, crc);
}

Mapping::Mapping(int fd, size_t size, const std::string& path) : data_(nullptr), size_(size) {
  guard_mappings(path);
  void* mapped = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (mapped == MAP_FAILED) throw IoError(errno, path);
  data_ = static_cast<uint8_t*>(mapped);
  stream(false);
}

Mapping::~Mapping() { munmap(data_, size_); }

bool Mapping::store(uint64_t offset, Slice bytes) {
  if (offset > size_ || bytes.size > size_ - offset) return false;
  return copy_guarded(data_ + offset, bytes.data, bytes.size);
}

void Mapping::expect(uint64_t offset, size_t size) noexcept {
#ifdef MADV_POPULATE_WRITE
  const uint64_t start = offset & ~uint64_t{PAGE - 1};
  if (offset > size_ || size > size_ - offset) return;
  madvise(data_ + start, offset + size - start, MADV_POPULATE_WRITE);  // only a wish
#else
  (void)offset, (void)size;
#endif
}

void Mapping::stream(bool much) noexcept {
  madvise(data_, size_, much ? MADV_SEQUENTIAL : MADV_RANDOM);  // only a wish
}

void Coverage::reserve(size_t more) {
  if (origins_.capacity() - origins_.size() < more)
    origins_.reserve(std::max(origins_.size() + more, 2 * origins_.capacity()));
}

void Coverage::add(const uint8_t* record) noexcept {
  Origin origin;
  std::memcpy(origin.replica, record + 1, sizeof origin.replica);
  origin.first = origin.last = load_big_u64(record + 9);
  add(origin);
}

void Coverage::add(Origin origin) noexcept {
  if (latest_ < origins_.size() &&
      !std::memcmp(origins_[latest_].replica, origin.replica, sizeof origin.replica)) {
    origins_[latest_].last = origin.last;
    return;
  }
  const auto place = std::lower_bound(origins_.begin(), origins_.end(), origin.replica, before);
  latest_ = static_cast<size_t>(place - origins_.begin());
  if (place != origins_.end() && !std::memcmp(place->replica, origin.replica, sizeof origin.replica))
    place->last = origin.last;
  else
    origins_.insert(place, origin);  // there is room
}

int Appender::map(int fd, size_t size) {
  if (mapping_ && mapping_->size() >= size) return 0;
  try {
    mapping_ = std::make_unique<Mapping>(fd, size, path_);
    streaming_ = false;
  } catch (const IoError& failure) {
    return failure.error;
  }
  return 0;
}

void Appender::begin(size_t size) {
  if (scratch_.size() > KEEP_SCRATCH) scratch_ = ByteString();
  scratch_.clear();
  scratch_.grow(size);
  filled_ = 0;
}

void Appender::add(uint8_t kind, Slice record) noexcept {
  uint8_t* frame = scratch_.data() + filled_;
  if (record.size) std::memcpy(frame + FRAME_SIZE, record.data, record.size);
  seal_frame(frame, kind, durable_, end + filled_, record.size);
  filled_ += FRAME_SIZE + record.size;
}

uint8_t* Appender::begin_one(size_t length) {
  begin(FRAME_SIZE + length);
  return scratch_.data() + FRAME_SIZE;
}

void Appender::seal_one(uint8_t kind) noexcept {
  seal_frame(scratch_.data(), kind, durable_, end, scratch_.size() - FRAME_SIZE);
}

bool Appender::store() noexcept {
  const uint64_t offset = end + static_cast<uint64_t>(shift_);
  if (!mapping_ || !mapping_->store(offset, scratch_.slice())) {
    limit = 0;  // nothing is to be stored here any more
    return false;
  }
  commit();
  return true;
}

bool Appender::store_pieces(uint8_t kind, const std::vector<Slice>& pieces) noexcept {
  uint8_t frame[FRAME_SIZE];
  size_t length = 0;
  for (const Slice piece : pieces) length += piece.size;
  begin_frame(frame, kind, durable_, length);
  const uint64_t offset = end + static_cast<uint64_t>(shift_);
  uint64_t at = offset + FRAME_SIZE;
  uint32_t crc = crc32(static_cast<uint32_t>(end), frame + CHECKED_AT, FRAME_SIZE - CHECKED_AT);
  bool stored = mapping_ != nullptr;
  if (stored && !streaming_ && length >= MUCH) {
    streaming_ = true;
    mapping_->stream(true);
  }
  if (stored) mapping_->expect(at, length);
  for (const Slice piece : pieces) {
    // Both passes over a part while it is in the processor's cache.
    for (size_t start = 0; stored && start < piece.size; start += PART) {
      const Slice part = piece.after(start).first(std::min(PART, piece.size - start));
      crc = crc32(crc, part.data, part.size);
      stored = mapping_->store(at, part);
      at += part.size;
    }
  }
  store_big_u32(frame + 4, crc);
  stored = stored && mapping_->store(offset, {frame, FRAME_SIZE});
  if (!stored) limit = 0;  // nothing is to be stored here any more
  return stored;
}

void Appender::commit() noexcept { moved(scratch_.size()); }

void Appender::moved(size_t size) noexcept {
  end += size;
  if (!streaming_ && mapping_ && end - durable_ >= MUCH) {
    streaming_ = true;
    mapping_->stream(true);
  }
}

void Appender::set_durable(uint64_t position) noexcept {
  if (streaming_ && position - durable_ < MUCH) {
    streaming_ = false;
    if (mapping_) mapping_->stream(false);
  }
  durable_ = position;
}

void Appender::close_block() noexcept {
  if (end - stop_ < block_bytes_) return;
  try {
    blocks.push_back({end, coverage});
  } catch (const std::bad_alloc&) {
    return;  // the block becomes longer
  }
  coverage.clear();
  stop_ = end;
}

}  // namespace murmur
