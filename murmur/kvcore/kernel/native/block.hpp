/* Blocks: a few kilobytes of sorted entries in columns.
 *
 *   block  := count u32 | deleted count u32 | referenced count u32 | widths 3 x u8
 *           | prefix lengths | suffix lengths | value lengths
 *           | deleted positions u32* | referenced positions u32* | prefixes | suffixes | values
 *   prefix := what the keys of one group of 16 entries have in common
 *
 * kernel/pure/block.py explains the format. A view turns the lengths into offsets once. For a block
 * that will be searched it also takes the keys' *heads*, the eight bytes that follow the prefix
 * that all keys of the block share: a binary search in one array of numbers, and keys are compared
 * only where heads are equal.
 *
 *   keys    "user0017" "user0031" "user0112"     all share "user0", heads "017" "031" "112"
 *   memory  heads u64* | shared prefix | prefix offsets | suffix offsets | value offsets | kinds
 *
 * Invariant: whatever the bytes are, a view reads within them or `parse` throws Malformed.
 */
#pragma once

#include "common.hpp"
#include "iterator.hpp"

namespace murmur {

constexpr uint32_t GROUP = 16;  // on disk: entries that share one prefix

/* A parsed block. It points into the block's bytes and into the memory that `parse` filled. */
class BlockView {
 public:
  BlockView() : count_(0), wide_(0) {}

  /* How much memory `parse` needs. Malformed unless that is in proportion to the block. */
  static size_t memory_for(Slice block, bool heads);
  /* `memory` is aligned to 8 bytes. */
  static BlockView parse(Slice block, uint8_t* memory, bool heads);
  /* The same in a vector, which may be used again once the view is not. */
  static BlockView parse(Slice block, Vector<uint64_t>& memory, bool heads);

  uint32_t count() const { return static_cast<uint32_t>(count_); }
  bool special() const { return kinds_ != nullptr; }  // not all entries are puts

  Slice prefix(uint32_t at) const { return between(prefix_at_, at / GROUP); }
  Slice suffix(uint32_t at) const { return between(suffix_at_, at); }
  /* The key of an entry, put together in `scratch` where it has to be. */
  Slice key(uint32_t at, ByteString& scratch) const {
    const Slice shared = prefix(at), own = suffix(at);
    if (shared.empty()) return own;
    scratch.assign(shared);
    scratch.append(own);
    return scratch.slice();
  }
  Slice value(uint32_t at) const { return between(value_at_, at); }
  Kind kind(uint32_t at) const { return kinds_ ? static_cast<Kind>(kinds_[at]) : Kind::Put; }

  /* The position of the first key that is not less than this one; count() if there is none. */
  uint32_t lower_bound(Slice key) const {
    bool found;
    return heads_ ? search_heads(key, found) : search_groups(key);
  }
  /* The same, and whether it is this key. */
  uint32_t find(Slice key, bool& found) const {
    if (heads_) return search_heads(key, found);
    const uint32_t at = search_groups(key);
    found = at < count() && equals(at, key);
    return at;
  }
  int compare(uint32_t at, Slice key) const;  // the entry's key with this one
  bool equals(uint32_t at, Slice key) const;

  /* The same block, its bytes read where others that are equal to them stand. */
  BlockView at(const uint8_t* data) const {
    BlockView moved = *this;
    moved.data_ = data;
    return moved;
  }

 private:
  void take_heads(uint64_t* heads);
  uint32_t search_heads(Slice key, bool& found) const;
  uint32_t search_groups(Slice key) const;
  int compare_tail(uint32_t at, Slice key) const;

  uint32_t offset(const uint8_t* of, size_t at) const {
    return wide_ ? load<uint32_t>(of + 4 * at) : load<uint16_t>(of + 2 * at);
  }
  Slice between(const uint8_t* offsets, uint32_t at) const {
    const uint32_t begin = offset(offsets, at);
    return {data_ + begin, offset(offsets, size_t{at} + 1) - begin};
  }

  // Offsets are of 16 bits, in a block longer than 64 KiB of 32. A head is searched, an offset read
  // once: what is not in a cache line costs more than the widening.
  const uint8_t* data_ = nullptr;
  uint32_t count_ : 31;                 // a block has more bytes than twice as many
  uint32_t wide_ : 1;
  uint32_t shared_ = 0;                 // bytes that all keys begin with
  const uint64_t* heads_ = nullptr;     // count, and then the shared bytes; or nothing
  const uint8_t* prefix_at_ = nullptr;  // groups + 1
  const uint8_t* suffix_at_ = nullptr;  // count + 1
  const uint8_t* value_at_ = nullptr;   // count + 1
  const uint8_t* kinds_ = nullptr;      // count, or nothing if all are puts
};

/* An iterator over the entries of blocks, however it comes by them. */
class BlockEntries : public EntryIterator {
 protected:
  /* The next entry is of another block. */
  void leave_block() { group_ = UINT32_MAX; }
  /* Makes this entry the one at hand. */
  void show(const BlockView& view, uint32_t at) {
    key_ = key_of(view, at);
    value_ = view.value(at);
    kind_ = view.kind(at);
    valid_ = true;
  }

 private:
  Slice key_of(const BlockView& view, uint32_t at) {
    const Slice own = view.suffix(at);
    if (at / GROUP != group_) {
      group_ = at / GROUP;
      const Slice prefix = view.prefix(at);
      shared_ = prefix.size;
      scratch_.assign(prefix);
    }
    if (!shared_) return own;
    scratch_.truncate(shared_);
    scratch_.append(own);
    return scratch_.slice();
  }

  uint32_t group_ = UINT32_MAX;  // whose prefix stands in scratch_
  size_t shared_ = 0;
  ByteString scratch_;
};

/* Collects the entries of one block, keys ascending. */
class BlockBuilder {
 public:
  void add(Slice key, Kind kind, Slice value);
  uint32_t count() const { return static_cast<uint32_t>(key_ends_.size()); }
  bool empty() const { return key_ends_.empty(); }
  /* Key and value bytes so far: what the size of a block is measured by. */
  size_t bytes() const { return keys_.size() + values_.size(); }
  Slice last_key() const { return key(count() - 1); }
  /* Appends the block to `out` and begins the next one. */
  void finish(ByteString& out);

 private:
  Slice key(uint32_t at) const;

  ByteString keys_;
  ByteString values_;
  Vector<uint32_t> key_ends_;
  Vector<uint32_t> value_ends_;
  Vector<uint32_t> deleted_;
  Vector<uint32_t> referenced_;
  Vector<uint32_t> shared_;  // lengths of the prefixes; scratch of `finish`
};

}  // namespace murmur
