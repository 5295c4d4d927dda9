/* The engine's batches: encoded into the log, and written to log and memtable at once.
 *
 *   batch := count of ranges varint | range* | entry*
 *   entry := length of the key varint | length of the value + 1 varint, 0 deletes | key | value
 *
 * murmur/kvcore/batch.py is the specification. Batches with ranges are written by it.
 *
 * Invariant: after `write` has returned anything but Done, nothing was appended, and what the
 * memtable was given has a sequence that was not published: its next `apply` takes it back.
 */
#pragma once

#include "log.hpp"
#include "memtable.hpp"

namespace murmur {

enum class Wrote : uint8_t {
  Done,
  NoRoom,  // in the segment
  Cut,     // the file of the segment was
};

/* Writes puts and deletes at a sequence, for the caller to publish. std::bad_alloc. */
Wrote write_batch(Appender& log, Memtable& memtable, uint64_t sequence, const Operation* operations,
                  size_t count);

}  // namespace murmur
