#include "author.hpp"

#include <algorithm>

#include "crc32.hpp"
#include "varint.hpp"

namespace murmur {

namespace {

constexpr uint8_t VERSION = 1, PUT = 1, DELETE = 2, SINGLE = 1;
constexpr size_t HEADER = 1 + 8 + 8 + 8 + DIGEST_SIZE;
constexpr size_t CELL_HEADER = 1 + 8 + 8 + 8;
constexpr size_t LONGEST_RECORD = size_t{64} << 20;
constexpr size_t KEEP = 1 << 20;  // what a large value took is given back
constexpr int COUNTER_BITS = 16;

}  // namespace

void Author::follow(const uint8_t* replica, uint64_t seq_, uint64_t stamp_,
                    const uint8_t* hash_) noexcept {
  std::memcpy(replica_, replica, sizeof replica_);
  seq = seq_;
  stamp = stamp_;
  std::memcpy(hash, hash_, sizeof hash);
}

Wrote Author::write(Appender& log, Memtable& memtable, uint64_t sequence, uint64_t now_ms, Slice key,
                    Slice value, bool deleted) {
  if (deleted) value = Slice();
  const uint64_t next_seq = seq + 1;
  const uint64_t next_stamp = std::max(now_ms << COUNTER_BITS, stamp + 1);
  const size_t size = HEADER + 3 + varint_size(key.size) + key.size + varint_size(value.size) + value.size;
  if (size > LONGEST_RECORD || next_stamp > LAST_STAMP || !log.has_room(FRAME_SIZE + size))
    return Wrote::NoRoom;
  if (cell_.size() > KEEP) cell_ = ByteString();
  cell_.clear();
  if (!deleted) {
    uint8_t* cell = cell_.grow(CELL_HEADER + value.size);
    cell[0] = SINGLE;
    store_big_u64(cell + 1, next_stamp);
    std::memcpy(cell + 9, replica_, sizeof replica_);
    store_big_u64(cell + 17, next_seq);
    if (value.size) std::memcpy(cell + CELL_HEADER, value.data, value.size);
  }
  log.coverage.reserve(1);
  uint8_t* const record = log.begin_one(size);
  record[0] = VERSION;
  std::memcpy(record + 1, replica_, sizeof replica_);
  store_big_u64(record + 9, next_seq);
  store_big_u64(record + 17, next_stamp);
  std::memcpy(record + 25, hash, sizeof hash);
  uint8_t* to = record + HEADER;
  *to++ = 0;  // of the vector has changed
  *to++ = 1;  // operations
  *to++ = deleted ? DELETE : PUT;
  to = put_bytes(put_varint(to, key.size), key);
  put_bytes(put_varint(to, value.size), value);
  log.seal_one(ADMITTED);
  const Operation operation{key, cell_.slice(), crc32(key), deleted};
  memtable.apply(sequence, &operation, 1);
  if (!log.store()) return Wrote::Cut;
  // From here on nothing fails.
  log.coverage.add(record);
  blake2b(record, size, hash);
  seq = next_seq;
  stamp = next_stamp;
  return Wrote::Done;
}

}  // namespace murmur
