/* BTree: records in key order, in wide nodes that are searched by whole words.
 *
 *     node     prefix "user:0000" | heads "0017\0\0\0\0" "0018alex" ... | records -> -> ...
 *     head     the 8 bytes of a key after the node's prefix, as one big-endian number
 *
 * All keys of a node begin with its prefix, so mostly one comparison of numbers decides, and no key
 * is fetched from memory; only where heads are equal are keys compared. Nodes hold 64 records,
 * leaves are linked, and an inner node has, for each child but the first, that child's first record
 * as its separator. A leaf that is full is cut in the middle, or at its end if that is where the
 * new record goes: so ascending keys fill their leaves.
 *
 * One writer at a time, and no reader beside it; nodes live in the arena and are never removed.
 *
 * Invariant: `insert` allocates all that it needs before it changes anything.
 * After the "poor man's normalized keys" of Graefe's Modern B-Tree Techniques (2011).
 */
#pragma once

#include <cassert>
#include <cstdint>
#include <cstring>
#include <new>

#include "arena.hpp"
#include "common.hpp"

namespace murmur {

// One version of a key's value, in the arena; older ones behind it.
struct Version {
  uint64_t sequence;
  Version* older;
  uint32_t size;
  bool deleted;

  uint8_t* bytes() { return reinterpret_cast<uint8_t*>(this + 1); }
  Slice value() const { return Slice(reinterpret_cast<const uint8_t*>(this + 1), size); }
};

// A key, in the arena, and its versions: none if they were taken back.
struct Record {
  Version* newest;
  uint32_t size;

  uint8_t* bytes() { return reinterpret_cast<uint8_t*>(this) + HEADER; }
  Slice key() const { return Slice(reinterpret_cast<const uint8_t*>(this) + HEADER, size); }

  static constexpr size_t HEADER = 12;
};

class BTree {
 public:
  static constexpr unsigned WIDTH = 64;

  struct Node {
    uint32_t count;        // of records
    uint32_t prefix_size;
    const uint8_t* prefix;  // in the key of some record
    uint8_t near[24];       // the first bytes of the prefix: most are no longer
    uint64_t heads[WIDTH];
    Record* records[WIDTH];
  };

  struct Leaf : Node {
    Leaf* next;
    Leaf* previous;
  };

  struct Inner : Node {
    Node* children[WIDTH + 1];
  };

  // A place between records: before the one that it names, or (no leaf) after the last.
  struct Place {
    Leaf* leaf = nullptr;
    unsigned at = 0;

    Record* record() const { return leaf->records[at]; }
    explicit operator bool() const { return leaf != nullptr; }

    // The record so many places after this one or before it, if it lies in this leaf or the next.
    Record* ahead(unsigned distance) const {
      if (at + distance < leaf->count) return leaf->records[at + distance];
      const unsigned beyond = at + distance - leaf->count;
      return leaf->next && beyond < leaf->next->count ? leaf->next->records[beyond] : nullptr;
    }
    Record* behind(unsigned distance) const {
      if (at >= distance) return leaf->records[at - distance];
      const unsigned beyond = distance - at;
      const Leaf* left = leaf->previous;
      return left && beyond <= left->count ? left->records[left->count - beyond] : nullptr;
    }

    void forward() {
      if (++at == leaf->count) {
        leaf = leaf->next;
        at = 0;
      }
    }

    void backward() {
      if (at == 0) {
        leaf = leaf->previous;
        at = leaf ? leaf->count : 1;
      }
      --at;
    }
  };

  explicit BTree(Arena& arena) : arena_(arena) {}

  // The first record whose key is not less.
  Place lower_bound(Slice key) const;
  // The last record whose key is less.
  Place before(Slice key) const;
  Place first() const { return Place{first_, 0}; }
  Place last() const { return Place{last_, last_ ? last_->count - 1 : 0}; }
  Record* find(Slice key) const;

  // Make room for one more record: after this, `insert` does not fail.
  void reserve() { arena_.reserve((height_ + 2) * sizeof(Inner)); }
  // Add a record whose key is not here.
  void insert(Record* record);

  // How often a record was added: an unchanged count says that places still hold.
  uint64_t count() const { return count_; }

 private:
  static constexpr unsigned DEEPEST = 24;

  Leaf* leaf_of(Slice key) const;
  Leaf* new_leaf();
  Inner* new_inner();

  Arena& arena_;
  Node* root_ = nullptr;
  Leaf* first_ = nullptr;
  Leaf* last_ = nullptr;
  unsigned height_ = 0;  // inner nodes on the way to a leaf
  uint64_t count_ = 0;
};

}  // namespace murmur
