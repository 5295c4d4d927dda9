/* keycode.hpp: atoms as keys that sort as they do. The format stands in catalog/keycode.py.
 *
 *     KeyWriter writer(columns);
 *     writer.begin(prefix);  writer.integer(7);  writer.text({"a", 1});  writer.slice()
 *     KeyReader reader(columns);
 *     reader.read(key);      reader[0].number, reader[1].bytes
 *
 * A key is its columns one after the other, each a tag and a body; a descending column is the
 * complement of the ascending one:
 *
 *     null       03
 *     boolean    02 | 00 or 01
 *     integer    02 | `width` bytes, big-endian, sign bit flipped if it has a sign
 *     float      02 | 8 bytes from 0 up; below 0: 01 | the same, complemented
 *     decimal    02 | value * 10^scale, sign bit flipped, 8 bytes (precision <= 18) or 16
 *     bytes      02 | 00 written as 00 ff | 00 01
 *     fixed      02 | as they are
 *     interval   02 | 8 bytes, microseconds with 30 days to the month, sign bit flipped
 *
 * Invariants: what cannot be written leaves the writer as it was; nothing outside of a key is read;
 * whatever is read would be written as the same bytes.
 */
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "common.hpp"
#include "rows.hpp"

namespace murmur {

struct KeyColumn {
  FieldSpec field;
  bool descending = false;

  bool is_signed() const { return field.low < 0; }
  // How many bytes follow the tag; 0 when that depends on the value.
  size_t width() const;
};

// Throws InvalidArgument for a column that no key can hold.
void check_columns(const std::vector<KeyColumn>& columns);

// Writes one key after another, column by column; the columns take turns.
class KeyWriter {
 public:
  explicit KeyWriter(std::vector<KeyColumn> columns);

  void begin(Slice prefix);

  // The next column; false when it cannot hold the value, and then nothing is written.
  void null();
  void boolean(bool value);
  bool integer(int64_t value);
  bool unsigned_integer(uint64_t value);  // one above the largest signed one
  void floating(double value);
  bool decimal(Slice text);
  void bytes(Slice value);
  bool fixed(Slice value);
  void interval(int64_t microseconds);
  bool interval(Slice months_and_microseconds);  // 12 bytes, as in an atom

  const KeyColumn& column() const { return columns_[at_]; }
  const std::vector<KeyColumn>& columns() const { return columns_; }
  Slice slice() const { return out_.slice(); }

 private:
  uint8_t* body(uint8_t tag, size_t width);
  void number(__int128 value, size_t width);
  void end();

  std::vector<KeyColumn> columns_;
  ByteString out_;
  size_t at_ = 0;
  size_t start_ = 0;  // of the column
};

// One column as it was read.
struct KeyValue {
  bool null = false;
  bool truth = false;       // Boolean
  int64_t number = 0;       // Integer, Interval
  double floating = 0;      // Float
  __int128 decimal = 0;     // in units of 10^-scale
  size_t start = 0;         // Text, Binary, Fixed, Uuid: in `bytes()` of the reader
  size_t size = 0;
};

// What is wrong with a key; `reason` is nullptr when nothing is.
struct BadKey {
  size_t offset = 0;
  const char* reason = nullptr;
};

class KeyReader {
 public:
  explicit KeyReader(std::vector<KeyColumn> columns);

  // Reads all columns. The key must end with the last one.
  BadKey read(Slice key);

  const KeyValue& operator[](size_t column) const { return values_[column]; }
  Slice bytes_of(size_t column) const {
    return {bytes_.data() + values_[column].start, values_[column].size};
  }
  const std::vector<KeyColumn>& columns() const { return columns_; }

 private:
  const char* column(const KeyColumn& column, Slice key, size_t& at, KeyValue& value);
  const char* body(const KeyColumn& column, Slice key, size_t& at, KeyValue& value);
  const char* escaped(Slice key, size_t& at, uint8_t mask, KeyValue& value);

  std::vector<KeyColumn> columns_;
  std::vector<KeyValue> values_;
  ByteString bytes_;
};

}  // namespace murmur
