/* A replica as the author of blind puts and deletes of registers, and of single rows: record, cell,
 * log and memtable at once.
 *
 *   record := 01 | replica 8s | seq u64 | stamp u64 | previous 16s | 00
 *             | 01 | kind u8 | length varint | key | length varint | value, or the body of a row
 *   cell   := 01 | stamp u64 | replica 8s | seq u64 | value             nothing, for a delete
 *
 * Cells of rows, and the entries beside them, are those of row_block.hpp.
 *
 * Integers are big-endian. 00 is the vector's difference from that of the author's record before:
 * none, since nothing was admitted in between. murmur/kvcore/record.py and cell.py are the
 * specification: what is written here has seen everything, so it covers what is there, and nothing
 * is read.
 *
 * Invariant: after anything but Done the author is as before, nothing was appended, and what the
 * memtable was given has a sequence that was not published.
 */
#pragma once

#include "batch.hpp"
#include "blake2b.hpp"
#include "row_block.hpp"

namespace murmur {

constexpr uint64_t LAST_STAMP = 0x7fffffffffffffff;

class Author {
 public:
  /* What the next record follows: the last one, which has seen all that there is. */
  void follow(const uint8_t* replica, uint64_t seq, uint64_t stamp, const uint8_t* hash) noexcept;

  uint64_t seq = 0;    // of the last record
  uint64_t stamp = 0;  // the highest that was issued or observed
  uint8_t hash[DIGEST_SIZE] = {};  // of the last record

  /* Puts a value, or deletes the key, at a time and a sequence, for the caller to publish.
   * std::bad_alloc. */
  Wrote write(Appender& log, Memtable& memtable, uint64_t sequence, uint64_t now_ms, Slice key,
              Slice value, bool deleted);
  /* Inserts the first row of a block, which has one, with its entries, likewise. That nothing has
   * its key is the caller's affair. */
  Wrote insert(Appender& log, Memtable& memtable, uint64_t sequence, uint64_t now_ms,
               const RowBlock& block);

 private:
  /* The next one's seq and stamp; false where there can be none of this size, or now. */
  bool next(const Appender& log, size_t size, uint64_t now_ms, uint64_t& seq, uint64_t& stamp) const;
  /* Begins a record of one operation in the log; it ends with the value. */
  uint8_t* begin(Appender& log, size_t size, uint64_t next_seq, uint64_t next_stamp, uint8_t kind,
                 Slice key, Slice value);
  /* Ends it, with what it does to the memtable. */
  Wrote end(Appender& log, Memtable& memtable, uint64_t sequence, const Operation* operations,
            size_t count, const uint8_t* record, size_t size, uint64_t next_seq, uint64_t next_stamp);

  uint8_t replica_[8] = {};
  ByteString cell_;
  ByteString key_, body_;  // of a row
  Vector<Operation> writes_;
};

}  // namespace murmur
