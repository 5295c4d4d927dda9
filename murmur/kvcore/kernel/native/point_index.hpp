/* PointIndex: hash of a key -> its record, so that a get or an overwrite is one probe.
 *
 *     slot := hash u32 << 32 | reference u32      the piece of the arena that the record is; 0: empty
 *
 * Open addressing with linear probing from the top bits of the mixed hash; so growing reads and
 * writes the slots nearly in order. It is only a short cut: a record that finds no slot within LIMIT,
 * since somebody makes hashes collide, is left out, and from then on `complete` says that a miss
 * must be looked for in the tree.
 *
 * Invariant: `find` gives the record with the key, or none.
 */
#pragma once

#include <cstdint>
#include <cstring>

#include "arena.hpp"
#include "btree.hpp"
#include "common.hpp"

namespace murmur {

class PointIndex {
 public:
  explicit PointIndex(const Arena& arena) : arena_(arena) {}
  PointIndex(const PointIndex&) = delete;
  PointIndex& operator=(const PointIndex&) = delete;
  ~PointIndex() { deallocate(slots_); }

  bool complete() const { return complete_; }
  size_t bytes() const { return slots_ ? sizeof(uint64_t) << bits_ : 0; }

  // Fetch what a `find` will look at first.
  void prefetch(uint32_t hash) const {
    if (slots_) __builtin_prefetch(slots_ + start(hash));
  }

  // Fetch the record that `find` will probably compare.
  void prefetch_record(uint32_t hash) const {
    if (!slots_) return;
    size_t mask = (size_t{1} << bits_) - 1;
    size_t at = start(hash);
    for (unsigned probe = 0; probe < 4; probe++, at = (at + 1) & mask) {
      uint64_t slot = slots_[at];
      if (slot == 0) return;
      if (slot >> 32 == hash) {
        __builtin_prefetch(arena_.at(static_cast<uint32_t>(slot) - 1));
        return;
      }
    }
  }

  Record* find(Slice key, uint32_t hash) const {
    if (!slots_) return nullptr;
    size_t mask = (size_t{1} << bits_) - 1;
    size_t at = start(hash);
    for (unsigned probe = 0; probe < LIMIT; probe++, at = (at + 1) & mask) {
      uint64_t slot = slots_[at];
      if (slot == 0) return nullptr;
      if (slot >> 32 == hash) {
        Record* record = reinterpret_cast<Record*>(arena_.at(static_cast<uint32_t>(slot) - 1));
        __builtin_prefetch(record->bytes() + 64 - Record::HEADER);  // its value is wanted next
        __builtin_prefetch(record->bytes() + 128 - Record::HEADER);
        if (record->key() == key) return record;
      }
    }
    return nullptr;
  }

  // Make room for one more: after this, `insert` does not fail.
  void reserve() {
    if (!slots_) {
      slots_ = allocate_slots(FIRST_BITS);
      bits_ = FIRST_BITS;
    } else if (count_ * 5 >= (size_t{3} << bits_)) {
      grow();
    }
  }

  // Add the record of this reference, which is not here.
  void insert(uint32_t hash, uint32_t reference) {
    if (reference == Arena::NO_REFERENCE ||
        !place(slots_, bits_, uint64_t{hash} << 32 | (reference + 1))) {
      complete_ = false;
    } else {
      count_++;
    }
  }

 private:
  static constexpr unsigned LIMIT = 128;  // by chance, no run is that long when 60 % are taken
  static constexpr unsigned FIRST_BITS = 6;
  static constexpr uint64_t MIX = 0x9E3779B97F4A7C15;  // 2^64 divided by the golden ratio

  size_t start(uint32_t hash) const { return hash * MIX >> (64 - bits_); }

  static uint64_t* allocate_slots(unsigned bits) {
    size_t size = sizeof(uint64_t) << bits;
    void* slots = allocate(size);
    std::memset(slots, 0, size);
    return static_cast<uint64_t*>(slots);
  }

  static bool place(uint64_t* slots, unsigned bits, uint64_t slot) {
    size_t mask = (size_t{1} << bits) - 1;
    size_t at = (slot >> 32) * MIX >> (64 - bits);
    for (unsigned probe = 0; probe < LIMIT; probe++, at = (at + 1) & mask) {
      if (slots[at] == 0) {
        slots[at] = slot;
        return true;
      }
    }
    return false;
  }

  void grow() {
    uint64_t* grown = allocate_slots(bits_ + 1);
    for (size_t at = 0; at < size_t{1} << bits_; at++) {
      if (slots_[at] && !place(grown, bits_ + 1, slots_[at])) complete_ = false;
    }
    deallocate(slots_);
    slots_ = grown;
    bits_++;
  }

  const Arena& arena_;
  uint64_t* slots_ = nullptr;
  unsigned bits_ = 0;
  size_t count_ = 0;
  bool complete_ = true;
};

}  // namespace murmur
