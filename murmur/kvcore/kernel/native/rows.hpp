/* rows.hpp: where the fields of a record are, in the bytes of its cell.
 *
 *     Finder finder(fields);
 *     finder.find(cell, size, slots, 1);      slots[i]: the atom of field i, in msgpack
 *
 * A cell is a record of cell.py, in msgpack:
 *
 *     [1, stamp, replica, seq, {field: atom}]                one life
 *     [1, stamp, replica, seq, {field: atom}, {field: int}]  with counters as they began
 *     [2, [[stamp, replica, seq, fields, edited, counters]+]]
 *
 * What is read of it is what `visible_fields` shows: the fields of the first life, and over them
 * the counters, summed over all lives within 64 bits. A field that the cell lacks reads `missing`.
 * Nothing here knows of tables: a field is told by its id and by what kind of atom is meant.
 *
 * Rows of a table have the same fields in the same order, so a field is guessed from its place in
 * the row before; only a wrong guess costs a search. Nearly all records have one life and ids that
 * take five bytes: they are walked by `find_plain`, which leaves everything else to a Walk.
 *
 * Invariants: nothing outside of the given bytes is read; what a slot points to is a whole atom.
 * Anything that is not a record is a BadCell, with the offset. pure/rows.py is the specification.
 */
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "common.hpp"

namespace murmur {

// As in fields.py.
enum class FieldKind : uint8_t {
  Boolean = 1,
  Integer = 2,   // low <= n <= high, of which n - bias is kept in `width` bytes
  Float = 3,     // of `width` bytes
  Decimal = 4,   // text; kept as a number of 10^-scale, of `precision` digits at most
  Text = 5,
  Binary = 6,
  Fixed = 7,     // bytes, `width` of them
  Uuid = 8,      // 16 bytes, shown as text with hyphens
  Interval = 9,  // microseconds, or 12 bytes: months i32, microseconds i64, big-endian
};

struct FieldSpec {
  uint32_t id = 0;
  FieldKind kind = FieldKind::Integer;
  std::string format;   // Arrow's format string
  std::string missing;  // an atom in msgpack
  uint32_t width = 0;
  int64_t bias = 0;
  int64_t low = 0;
  int64_t high = 0;
  uint32_t precision = 0;
  uint32_t scale = 0;
  bool shortest = false;  // a Decimal whose text has no zeros at the end of its fraction
};

// What is wrong with a cell; `reason` is nullptr when nothing is.
struct BadCell {
  size_t cell = 0;
  size_t offset = 0;
  const char* reason = nullptr;
};

// Finds the atoms of fields in cells. For one thread at a time.
class Finder {
 public:
  explicit Finder(const std::vector<FieldSpec>& fields);

  // Sets slots[i * stride] to the atom of field i, which is whole; a field that is not there gets
  // its `missing`. Throws BadCell. What slots point to lives as long as the cell and this
  // Finder, until `forget`.
  void find(const uint8_t* cell, size_t size, const uint8_t** slots, size_t stride);

  // `find` with a stride of 1, for callers that catch nothing.
  BadCell look(const uint8_t* cell, size_t size, const uint8_t** slots);

  // Let go of sums that slots point to.
  void forget() { sums_.clear(); }

  size_t size() const { return ids_.size(); }

 private:
  struct Guess {
    uint32_t id = 0;
    int32_t field = -1;
  };
  struct Counted {
    bool there = false;
    __int128 sum = 0;
  };
  struct Total {
    const uint8_t* replica;
    __int128 plus, minus;
  };
  class Walk;

  bool find_plain(const uint8_t* cell, const uint8_t* end, const uint8_t** slots, size_t stride);
  int32_t field_of(uint32_t id) const;
  int32_t guess(size_t place, uint32_t id);

  std::vector<uint32_t> ids_;
  std::vector<std::string> missing_;
  std::vector<std::pair<uint32_t, int32_t>> sorted_;  // id, field: the first of that id
  std::vector<std::pair<size_t, size_t>> twins_;      // field, an earlier one of the same id
  std::vector<Guess> guesses_;
  std::vector<Counted> counted_;
  std::vector<Total> totals_, offsets_;
  std::deque<std::array<uint8_t, 9>> sums_;  // counters of several lives, as atoms
};

}  // namespace murmur
