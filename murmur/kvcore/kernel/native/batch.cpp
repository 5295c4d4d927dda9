#include "batch.hpp"

#include "varint.hpp"

namespace murmur {

Wrote write_batch(Appender& log, Memtable& memtable, uint64_t sequence, const Operation* operations,
                  size_t count) {
  if (count) memtable.prefetch(operations[0].hash);  // comes while the frame is made
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
