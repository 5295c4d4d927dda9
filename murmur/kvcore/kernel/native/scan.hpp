/* Scan: one walk over all that an arrangement holds in a range of keys, in either direction.
 *
 *   source    a memtable, a sorted run, a table of level 0, or a deeper level: newest first
 *   heap      the sources by their key at hand; of one key the newest source comes first
 *   cover     the range tombstones of one source, which hide entries of the sources after it
 *
 *   memtable  b=1  delete d        a step takes the first key from the heap, moves every source
 *   level 1   a=0 b=7 c=9 d=4      past it, and keeps the newest entry:  a=0  b=1  c=9
 *
 * It fills rows: keys and values of many entries, each one after the other in one piece of memory,
 * without tombstones, with the values that references point to.
 *
 * Invariant: after an error the rows hold entries that precede it, and `fill` may not be called again.
 */
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "common.hpp"
#include "iterator.hpp"
#include "reads.hpp"

namespace murmur {

/* Pairs in two columns: item i lies between offsets i and i + 1. */
class Rows {
 public:
  size_t count() const { return value_ends_.empty() ? 0 : value_ends_.size() - 1; }
  size_t bytes() const { return keys_.size() + values_.size(); }
  Slice key(size_t at) const {
    return {keys_.data() + key_ends_[at], size_t{key_ends_[at + 1]} - key_ends_[at]};
  }
  Slice value(size_t at) const {
    return {values_.data() + value_ends_[at], size_t{value_ends_[at + 1]} - value_ends_[at]};
  }
  Slice keys() const { return keys_.slice(); }
  Slice values() const { return values_.slice(); }
  const uint32_t* key_offsets() const { return count() ? key_ends_.data() : &NONE; }
  const uint32_t* value_offsets() const { return count() ? value_ends_.data() : &NONE; }

  // These two take no memory: nobody catches what a constructor of a Python class throws.
  Rows() = default;
  void clear() noexcept;
  /* Without memory it throws, and the rows before it stay what they are. */
  void add(Slice key, Slice value);
  /* Adds a value that the caller fills in. */
  uint8_t* add(Slice key, size_t value_size);
  void remove_last() { truncate(count() - 1); }
  void truncate(size_t count);  // to the first ones
  void swap(Rows& other) noexcept {
    std::swap(keys_, other.keys_);
    std::swap(values_, other.values_);
    key_ends_.swap(other.key_ends_);
    value_ends_.swap(other.value_ends_);
  }
  /* Bytes of keys and values that there is memory for. */
  size_t capacity() const { return keys_.capacity() + values_.capacity(); }

 private:
  ByteString keys_;
  ByteString values_;
  Vector<uint32_t> key_ends_;  // count + 1, or none at all
  Vector<uint32_t> value_ends_;

  static constexpr uint32_t NONE = 0;
};

class Scan {
 public:
  /* The entries with start <= key < stop (not `bounded`: no stop), as the sequence sees them. The
   * arrangement must outlive it. Nothing is read before the first `fill`. */
  Scan(const Reads& reads, Slice start, Slice stop, bool bounded, uint64_t sequence, bool reverse);
  ~Scan();
  Scan(const Scan&) = delete;
  Scan& operator=(const Scan&) = delete;

  /* Adds rows until there are `most` or they have so many bytes; false at the end. */
  bool fill(Rows& rows, size_t most, size_t bytes);

 private:
  class Source;
  class Cover;

  bool walk(Rows& rows, size_t most, size_t bytes);
  void open();
  void add_source(std::unique_ptr<Source> source);
  bool before(const Source* left, const Source* right) const;
  void sift(size_t at);
  void top_moved();
  bool hidden(Source& source);
  void take(const Source& source, Rows& rows);
  void take_alone(Source& source, Rows& rows, size_t most, size_t bytes);
  void step(Source& source) const;
  bool within(Slice key) const;

  const Reads& reads_;
  const std::string start_, stop_;
  const bool bounded_, reverse_;
  const uint64_t sequence_;
  bool opened_ = false;
  bool first_ = true;  // no key was met yet
  ByteString last_;    // the last key met that another source may have, too
  std::vector<std::unique_ptr<Source>> sources_;
  std::vector<std::unique_ptr<Cover>> covers_;  // newest first
  std::vector<Source*> heap_;
};

}  // namespace murmur
