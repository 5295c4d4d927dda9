/* What tables and memtables have in common: entries in key order, and range tombstones.
 *
 *   kind        value
 *   Put         the value
 *   Tombstone   empty
 *   Reference   24 bytes: value file number u64 | offset u64 | length u32 | crc u32 of the value
 *
 *   source newest   b=1           range [c, e)          An entry of an older source is hidden by an
 *   source older    a=0 b=7 c=9                         entry of the same key or by a range here.
 *
 * Invariant: an iterator gives each key once, ascending with next, descending with prev; a range
 * tombstone never hides an entry of its own source.
 * After leveldb's Iterator.
 */
#pragma once

#include <memory>

#include "common.hpp"

namespace murmur {

enum class Kind : uint8_t { Put, Tombstone, Reference };

constexpr size_t REFERENCE_BYTES = 24;

/* Where a separated value stands. */
struct Reference {
  uint64_t file;
  uint64_t offset;
  uint32_t length;
  uint32_t crc;

  static Reference decode(Slice value) {
    if (value.size != REFERENCE_BYTES) throw Malformed("a reference is not 24 bytes long");
    return {load<uint64_t>(value.data), load<uint64_t>(value.data + 8),
            load<uint32_t>(value.data + 16), load<uint32_t>(value.data + 20)};
  }
  void encode(uint8_t* to) const {
    store(to, file);
    store(to + 8, offset);
    store(to + 16, length);
    store(to + 20, crc);
  }
};

/* Hides entries with start <= key < stop of older sources. */
struct RangeTombstone {
  std::string start;
  std::string stop;
};
using RangeTombstones = std::vector<RangeTombstone>;  // disjoint, ascending

/* The range that covers a key, or nullptr. */
inline const RangeTombstone* covering(const RangeTombstones& ranges, Slice key) {
  size_t low = 0, high = ranges.size();
  while (low < high) {  // the first range that starts after the key
    const size_t middle = (low + high) / 2;
    if (Slice(ranges[middle].start) <= key) low = middle + 1;
    else high = middle;
  }
  return low && key < Slice(ranges[low - 1].stop) ? &ranges[low - 1] : nullptr;
}

/* Adds the union of ranges in any order to nothing: disjoint, ascending, touching ones joined. */
RangeTombstones join_ranges(RangeTombstones ranges);

/* A cursor. Implementations keep the entry at hand in the members below, so that reading it costs
 * no virtual call. After any movement `valid` tells whether there is an entry; key and value stay
 * readable until the next movement. The iterator's source must outlive it. */
class EntryIterator {
 public:
  virtual ~EntryIterator() = default;
  virtual void seek(Slice key) = 0;         // the first entry that is not less than the key
  virtual void seek_first() = 0;
  virtual void seek_last() = 0;
  virtual void seek_before(Slice key) = 0;  // the last entry that is less than the key
  virtual void next() = 0;                  // only when valid
  virtual void prev() = 0;                  // only when valid

  bool valid() const { return valid_; }
  Slice key() const { return key_; }
  Slice value() const { return value_; }
  Kind kind() const { return kind_; }

 protected:
  EntryIterator() = default;
  EntryIterator(const EntryIterator&) = delete;
  EntryIterator& operator=(const EntryIterator&) = delete;

  bool valid_ = false;
  Kind kind_ = Kind::Put;
  Slice key_;
  Slice value_;
};

/* One source of a flush or merge: a frozen memtable, or a run of disjoint tables. It never changes
 * while it is read, and is read without any lock of the binding's. */
class EntrySource {
 public:
  virtual ~EntrySource() = default;
  virtual std::unique_ptr<EntryIterator> entries() const = 0;  // for one pass, forward
  virtual RangeTombstones ranges() const = 0;
};

/* Entries that came sorted and wait to become a table: puts, of each key one. It is read where it
 * stands, by any number of threads; its iterators go in both directions. */
class SortedRun : public EntrySource {
 public:
  /* The value of a key, written into `value`; false if it has none. */
  virtual bool get(Slice key, ByteString& value) const = 0;
  /* What it takes in memory. */
  virtual size_t bytes() const = 0;
  RangeTombstones ranges() const override { return {}; }
};

}  // namespace murmur
