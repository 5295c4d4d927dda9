#include "author.hpp"

#include <algorithm>

#include "crc32.hpp"
#include "varint.hpp"

namespace murmur {

namespace {

constexpr uint8_t VERSION = 1, PUT = 1, DELETE = 2, INSERT = 4, SINGLE = 1;
constexpr size_t HEADER = 1 + 8 + 8 + 8 + DIGEST_SIZE;
constexpr size_t CELL_HEADER = 1 + 8 + 8 + 8;
constexpr size_t LONGEST_RECORD = size_t{64} << 20;
constexpr size_t KEEP = 1 << 20;  // what a large value took is given back
constexpr int COUNTER_BITS = 16;

/* Of a record of one operation. */
size_t record_size(Slice key, Slice value) {
  return HEADER + 3 + varint_size(key.size) + key.size + varint_size(value.size) + value.size;
}

}  // namespace

void Author::follow(const uint8_t* replica, uint64_t seq_, uint64_t stamp_,
                    const uint8_t* hash_) noexcept {
  std::memcpy(replica_, replica, sizeof replica_);
  seq = seq_;
  stamp = stamp_;
  std::memcpy(hash, hash_, sizeof hash);
}

bool Author::next(const Appender& log, size_t size, uint64_t now_ms, uint64_t& next_seq,
                  uint64_t& next_stamp) const {
  next_seq = seq + 1;
  next_stamp = std::max(now_ms << COUNTER_BITS, stamp + 1);
  return size <= LONGEST_RECORD && next_stamp <= LAST_STAMP && log.has_room(FRAME_SIZE + size);
}

uint8_t* Author::begin(Appender& log, size_t size, uint64_t next_seq, uint64_t next_stamp,
                       uint8_t kind, Slice key, Slice value) {
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
  *to++ = kind;
  to = put_bytes(put_varint(to, key.size), key);
  put_bytes(put_varint(to, value.size), value);
  log.seal_one(ADMITTED);
  return record;
}

Wrote Author::end(Appender& log, Memtable& memtable, uint64_t sequence, const Operation* operations,
                  size_t count, const uint8_t* record, size_t size, uint64_t next_seq,
                  uint64_t next_stamp) {
  memtable.apply(sequence, operations, count);
  if (!log.store()) return Wrote::Cut;
  // From here on nothing fails.
  log.coverage.add(record);
  blake2b(record, size, hash);
  seq = next_seq;
  stamp = next_stamp;
  return Wrote::Done;
}

Wrote Author::write(Appender& log, Memtable& memtable, uint64_t sequence, uint64_t now_ms, Slice key,
                    Slice value, bool deleted) {
  if (deleted) value = Slice();
  uint64_t next_seq, next_stamp;
  const size_t size = record_size(key, value);
  if (!next(log, size, now_ms, next_seq, next_stamp)) return Wrote::NoRoom;
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
  const uint8_t* record =
      begin(log, size, next_seq, next_stamp, deleted ? DELETE : PUT, key, value);
  const Operation operation{key, cell_.slice(), crc32(key), deleted};
  return end(log, memtable, sequence, &operation, 1, record, size, next_seq, next_stamp);
}

Wrote Author::insert(Appender& log, Memtable& memtable, uint64_t sequence, uint64_t now_ms,
                     const RowBlock& block) {
  if (cell_.size() > KEEP) cell_ = ByteString();
  if (body_.size() > KEEP) body_ = ByteString();
  cell_.clear();
  key_.clear();
  body_.clear();
  writes_.clear();
  block.key(0, key_);
  block.body(0, body_);
  uint64_t next_seq, next_stamp;
  const size_t size = record_size(key_.slice(), body_.slice());
  if (!next(log, size, now_ms, next_seq, next_stamp)) return Wrote::NoRoom;
  RowAuthor author{next_stamp, {}, next_seq};
  std::memcpy(author.replica, replica_, sizeof replica_);
  block.writes(author, cell_, writes_);
  const uint8_t* record =
      begin(log, size, next_seq, next_stamp, INSERT, key_.slice(), body_.slice());
  return end(log, memtable, sequence, writes_.data(), writes_.size(), record, size, next_seq,
             next_stamp);
}

}  // namespace murmur
