/* The log's hot path: frames, and appending them to the open segment.
 *
 *   frame := marker f5 1a 4c 67 | crc u32 | length u32 | kind u8 | durable u64 | record
 *
 * Integers are big-endian; the crc covers all that follows it, begun with the low 32 bits of the
 * frame's position in the log. murmur/kvcore/frame.py is the specification.
 *
 * A segment that has room behind its end, reserved on the disk and filled with zeros, is mapped:
 * appending is then a store into memory, which survives the end of the process as a write does. A
 * page that is gone, since somebody cut the file, fails the append and not the process.
 *
 * Invariants:
 *   1. `end` moves when the frames are there, and not before: an append has happened or not.
 *   2. Nothing is stored at or behind `limit`; before it the file has its bytes.
 */
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "common.hpp"

namespace murmur {

constexpr size_t FRAME_SIZE = 21;
constexpr uint8_t ADMITTED = 1, PARKED = 2, BATCH = 3;
constexpr size_t MAX_RECORD = 0x7fffffff;

inline void store_big_u32(uint8_t* to, uint32_t number) { store(to, __builtin_bswap32(number)); }
inline void store_big_u64(uint8_t* to, uint64_t number) { store(to, __builtin_bswap64(number)); }

/* Puts the 21 bytes before a record of this length that stands behind them already. */
void seal_frame(uint8_t* frame, uint8_t kind, uint64_t durable, uint64_t position, size_t length);

/* The first bytes of a file, to be stored into; `fd` is not needed afterwards. */
class Mapping {
 public:
  Mapping(int fd, size_t size, const std::string& path);
  ~Mapping();
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  size_t size() const { return size_; }
  /* False if the file has lost these bytes. */
  bool store(uint64_t offset, Slice bytes);
  /* So many bytes will be stored there: have their pages at hand, at once and not one by one. */
  void expect(uint64_t offset, size_t size) noexcept;
  /* Whether much is stored between two syncs: then the system takes the file in large pieces, at a
   * quarter of the cost; a sync writes each piece whole (0.5 ms for one frame in place of 0.08). */
  void stream(bool much) noexcept;

 private:
  uint8_t* data_;
  size_t size_;
};

/* The first and last sequence number of one author among records. */
struct Origin {
  uint8_t replica[8];
  uint64_t first;
  uint64_t last;
};

/* What a stretch of frames holds of whom. */
class Coverage {
 public:
  /* Makes room for this many more authors, so that `add` cannot fail. */
  void reserve(size_t more);
  /* A record: its version byte, its replica and its seq are its first 17 bytes. */
  void add(const uint8_t* record) noexcept;
  void add(Origin origin) noexcept;
  void clear() { origins_.clear(); }
  size_t size() const { return origins_.size(); }
  const Origin& operator[](size_t at) const { return origins_[at]; }

 private:
  Vector<Origin> origins_;  // by replica
  size_t latest_ = 0;
};

/* A stretch of frames, up to a position, and what it holds of whom. */
struct Stretch {
  uint64_t stop;
  Coverage coverage;
};

/* The open segment, as far as appending goes: position p stands at offset p + shift of the file. */
class Appender {
 public:
  /* `stop` is where the last block ends; the next one is closed when it has `block_bytes`. */
  Appender(uint64_t end, int64_t shift, uint64_t stop, uint64_t block_bytes, std::string path)
      : end(end), limit(end), shift_(shift), stop_(stop), block_bytes_(block_bytes),
        path_(std::move(path)) {}

  uint64_t end;      // behind the last frame
  uint64_t limit;    // there is room up to here
  Coverage coverage; // of the admitted records of the block at hand
  std::vector<Stretch> blocks;  // closed since

  /* All before this position is on the disk, as far as frames tell. */
  uint64_t durable() const { return durable_; }
  void set_durable(uint64_t position) noexcept;
  bool has_room(uint64_t size) const { return limit >= end && size <= limit - end; }
  bool mapped() const { return mapping_ != nullptr; }
  /* Maps so many bytes of the file; the errno if that fails, or 0. */
  int map(int fd, size_t size);
  void unmap() { mapping_.reset(); }

  /* Begins frames that take `size` bytes altogether: all of them, or the one of `begin_one`. */
  void begin(size_t size);
  void add(uint8_t kind, Slice record) noexcept;
  /* A frame for a record of this length, which the caller writes to where this points to. */
  uint8_t* begin_one(size_t length);
  void seal_one(uint8_t kind) noexcept;
  Slice frames() const { return scratch_.slice(); }

  /* Stores the frames into the mapping, and moves the end. False if the file was cut. */
  bool store() noexcept;
  /* Stores one frame of a record in pieces into the mapping, and nothing else. `moved` is to be
   * called when it may be seen. False as above. */
  bool store_pieces(uint8_t kind, const std::vector<Slice>& pieces) noexcept;
  void moved(size_t size) noexcept;
  /* Moves the end behind the frames, which the caller has written. */
  void commit() noexcept;
  /* Closes the block at hand if it is long enough, and there is memory for that. */
  void close_block() noexcept;

 private:
  const int64_t shift_;
  uint64_t stop_;
  const uint64_t block_bytes_;
  const std::string path_;
  uint64_t durable_ = 0;
  std::unique_ptr<Mapping> mapping_;
  bool streaming_ = false;
  ByteString scratch_;
  size_t filled_ = 0;
};

}  // namespace murmur
