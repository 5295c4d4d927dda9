/* What stays in memory of a table that is in use: filter, index, ranges, and the cache's slots.
 *
 * Invariant: all handles lie within the file, before its footer.
 */
#pragma once

#include "table.hpp"

namespace murmur {

struct Table::Contents {
  Buffer filter_bytes;
  Slice filter;  // empty: there is none
  Buffer index_bytes;
  Vector<uint64_t> index_memory;
  BlockView index;  // with heads
  RangeTombstones ranges;
  std::vector<std::pair<uint64_t, uint64_t>> references;
  uint32_t crc = 0;  // of all before the footer
  std::unique_ptr<Slot[]> slots;
  uint64_t bytes = 0;

  size_t blocks() const { return index.count(); }
  Handle handle(size_t at) const {
    return Handle::decode(index.value(static_cast<uint32_t>(at)).data);
  }
  /* The first block whose last key is not less than this one; blocks() if there is none. */
  size_t find(Slice key) const { return index.lower_bound(key); }
};

}  // namespace murmur
