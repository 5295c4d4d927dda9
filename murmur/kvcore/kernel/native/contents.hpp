/* What stays in memory of a table that is in use: filter, index, ranges, and the cache's slots.
 *
 * The index is searched by heads: the eight bytes of each last key that follow the prefix that all
 * of them share. One array of numbers, a binary search without branches; keys are compared only
 * where heads are equal.
 *
 *   lasts   "user0017" "user0031" "user0112"     prefix "user0", heads "017" "031" "112"
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
  Vector<uint32_t> index_arrays;
  BlockView index;
  size_t shared = 0;  // bytes that all last keys begin with
  ByteString shared_bytes;
  Vector<uint64_t> heads;
  RangeTombstones ranges;
  std::vector<std::pair<uint64_t, uint64_t>> references;
  uint32_t crc = 0;  // of all before the footer
  std::unique_ptr<Slot[]> slots;
  uint64_t bytes = 0;

  size_t blocks() const { return heads.size(); }
  Handle handle(size_t at) const { return Handle::decode(index.value(static_cast<uint32_t>(at)).data); }
  /* The first block whose last key is not less than this one; blocks() if there is none. */
  size_t find(Slice key) const;
  /* Builds prefix and heads of the index that was parsed. */
  void build_heads();
};

}  // namespace murmur
