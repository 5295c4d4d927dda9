/* Memtable: the newest writes, in memory, in all their versions.
 *
 *   keys     BTree of records, each with its versions, newest first
 *   index    hash of a key -> its record
 *   ranges   BTree of boundaries: what was deleted from this key on, up to the next boundary
 *
 *   put a=1 at 7, put a=2 at 8, delete [b, d) at 9, delete [c, e) at 10
 *       keys     a: (8, "2") -> (7, "1")
 *       ranges   b: 9    c: 10 -> 9    d: 10    e: nothing
 *
 * A reader at a sequence sees of each key the newest version that is not newer than it, unless a
 * range tombstone between the two covers the key. In one batch the ranges apply first. All versions
 * stay until the memtable is gone, so readers need no pins.
 *
 * One thread applies; any number reads beside it, under a lock that is held for one lookup, or one
 * piece of a walk. Keys and values never move: they are readable as long as the memtable lives.
 *
 * Invariants:
 *   1. What is newer than the last published sequence is never seen. If `apply` fails, or is not
 *      published, the next `apply` or `freeze` takes it back.
 *   2. A failed allocation leaves everything that can be seen as it was.
 */
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "arena.hpp"
#include "btree.hpp"
#include "common.hpp"
#include "iterator.hpp"
#include "lock.hpp"
#include "point_index.hpp"

namespace murmur {

/* One entry of a batch. */
struct Operation {
  Slice key;
  Slice value;
  uint32_t hash;  // crc32 of the key
  bool deleted;
};

struct KeyRange {
  Slice start;
  Slice stop;
};

enum class Seen : uint8_t { Nothing, Value, Deleted };

/* One of several gets: of what, and what came of it. */
struct Lookup {
  Slice key;
  uint32_t hash;
  Seen seen;
  Slice value;
};

class Memtable final : public EntrySource {
 public:
  /* `sequence` is the last one that was published before this memtable began. */
  explicit Memtable(uint64_t sequence)
      : newest_(sequence), keys_(arena_), index_(arena_), ranges_(arena_) {}

  /* Write a batch at a sequence, the one after the last published; all is copied. A range whose
   * start is not less than its stop is empty, and does nothing. */
  void apply(uint64_t sequence, const Operation* operations, size_t count,
             const KeyRange* ranges = nullptr, size_t range_count = 0);

  /* A key of this hash will be applied soon: have at hand what that looks at first. */
  void prefetch(uint32_t hash) const { index_.prefetch(hash); }

  /* Nothing will be applied any more: drop what is newer than this. */
  void freeze(uint64_t published);

  /* What a sequence sees of a key; `value` is set if that is a value. */
  Seen get(Slice key, uint32_t hash, uint64_t sequence, Slice& value) const;
  /* The same for all lookups of which nothing was seen yet. */
  void get_many(Lookup* lookups, size_t count, uint64_t sequence) const;

  /* Whether a range tombstone that the sequence sees covers the key. The answer is the same for
   * all keys with from <= key < to; without `bounded`, for all keys >= from. */
  bool covers(Slice key, uint64_t sequence, Slice& from, Slice& to, bool& bounded) const;
  /* Whether there is any range tombstone, seen or not. */
  bool has_ranges() const { return has_ranges_.load(std::memory_order_acquire); }
  /* The range tombstones that a sequence sees. */
  RangeTombstones ranges_at(uint64_t sequence) const;

  uint64_t newest() const;  // the highest sequence that was applied
  size_t size() const;      // keys, and boundaries of range tombstones
  /* What keys, values and what orders them take. */
  size_t bytes() const { return bytes_.load(std::memory_order_relaxed); }

  /* As a source of a flush, when it is frozen: all that its newest sequence sees. */
  std::unique_ptr<EntryIterator> entries() const override;
  RangeTombstones ranges() const override { return ranges_at(newest()); }

 private:
  friend class MemtableIterator;

  Record* find(Slice key, uint32_t hash) const;
  Seen look(Slice key, uint32_t hash, uint64_t sequence, Slice& value) const;
  void put(uint64_t sequence, const Operation& operation);
  void delete_range(uint64_t sequence, const KeyRange& range);
  void add_boundary(Slice key);
  void push(Record* record, Version* version);
  void drop_newer(const BTree& records, uint64_t sequence);
  void take_back(uint64_t sequence);
  /* The newest range tombstone that covers the key and is not newer than the sequence; 0: none. */
  uint64_t cover_of(Slice key, uint64_t sequence, const Record*& from, const Record*& to) const;

  mutable SharedLock lock_;
  uint64_t newest_;
  bool frozen_ = false;
  std::atomic<bool> has_ranges_{false};
  size_t size_ = 0;
  std::atomic<size_t> bytes_{0};
  Arena arena_;
  BTree keys_;
  PointIndex index_;
  BTree ranges_;
};

/* A walk over what a sequence sees, in both directions; tombstones come too. It takes a piece at a
 * time, from a few entries to some hundreds. What is written meanwhile is newer, and not seen. The
 * memtable must outlive it. */
class MemtableIterator final : public EntryIterator {
 public:
  MemtableIterator(const Memtable& memtable, uint64_t sequence)
      : memtable_(memtable), sequence_(sequence) {}

  void seek(Slice key) override;
  void seek_first() override;
  void seek_last() override;
  void seek_before(Slice key) override;
  void next() override {
    if (++at_ < stop_) show();
    else continue_forward();
  }
  void prev() override {
    if (at_-- > start_) show();
    else continue_backward();
  }

 private:
  struct Entry {
    const Record* record;
    const Version* version;
  };
  static constexpr size_t SHORTEST = 16, LONGEST = 256;

  void show() {
    key_ = piece_[at_].record->key();
    value_ = piece_[at_].version->value();
    kind_ = piece_[at_].version->deleted ? Kind::Tombstone : Kind::Put;
    valid_ = true;
  }
  void begin();
  void continue_forward();
  void continue_backward();
  bool fill_forward(BTree::Place place);
  bool fill_backward(BTree::Place place);
  const Version* seen(const Record* record);

  const Memtable& memtable_;
  const uint64_t sequence_;
  Vector<Entry> piece_;  // ascending, in [start_, stop_)
  size_t start_ = 0, stop_ = 0, at_ = 0;
  size_t limit_ = SHORTEST;
  const Record* low_ = nullptr;  // the outermost records that were looked at for this piece
  const Record* high_ = nullptr;
  BTree::Place edge_;  // the one beyond them, where the walk goes on,
  uint64_t edge_count_ = 0;  // if so many are still in the tree
  bool edge_forward_ = true;
  const Record* cover_from_ = nullptr;  // `cover_` holds from here to there
  const Record* cover_to_ = nullptr;
  uint64_t cover_ = 0;
  bool cover_known_ = false;
};

}  // namespace murmur
