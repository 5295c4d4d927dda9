#include "batch.hpp"

namespace murmur {

namespace {

size_t varint_size(uint64_t number) {
  size_t size = 1;
  while (number > 127) number >>= 7, size++;
  return size;
}

uint8_t* put_varint(uint8_t* to, uint64_t number) {
  for (; number > 127; number >>= 7) *to++ = static_cast<uint8_t>(number | 128);
  *to++ = static_cast<uint8_t>(number);
  return to;
}

uint8_t* put_bytes(uint8_t* to, Slice bytes) {
  if (bytes.size) std::memcpy(to, bytes.data, bytes.size);
  return to + bytes.size;
}

}  // namespace

Wrote write_batch(Appender& log, Memtable& memtable, uint64_t sequence, const Operation* operations,
                  size_t count) {
  size_t size = 1;
  for (size_t at = 0; at < count; at++) {
    const Operation& one = operations[at];
    size += varint_size(one.key.size) + one.key.size;
    size += one.deleted ? 1 : varint_size(one.value.size + 1) + one.value.size;
  }
  if (size > MAX_RECORD || !log.has_room(FRAME_SIZE + size)) return Wrote::NoRoom;
  uint8_t* to = log.begin_one(size);
  *to++ = 0;  // ranges
  for (size_t at = 0; at < count; at++) {
    const Operation& one = operations[at];
    to = put_varint(to, one.key.size);
    to = put_varint(to, one.deleted ? 0 : one.value.size + 1);
    to = put_bytes(to, one.key);
    if (!one.deleted) to = put_bytes(to, one.value);
  }
  log.seal_one(BATCH);
  memtable.apply(sequence, operations, count);
  return log.store() ? Wrote::Done : Wrote::Cut;
}

}  // namespace murmur
