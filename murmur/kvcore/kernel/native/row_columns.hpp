/* row_columns.hpp: columns of an Arrow batch as rows of a RowEncoder.
 *
 *     ColumnSource source;  source.form = Form::Integer;  source.width = 4;  source.values = ...
 *     BadValue bad = encode_columns(encoder, sources, rules, first, count, row_ids);
 *
 *     form       values                                   atom
 *     Null       none                                     nil
 *     Boolean    bits                                     bool
 *     Integer    of 2, 4 or 8 bytes                       n + bias, which low and high bound
 *     Float      of 4 or 8 bytes                          float of 8 bytes
 *     Decimal    of 16 bytes, in units of 10^-scale       text
 *     Text       offsets of 4 bytes, and UTF-8            text without NUL
 *     Binary     offsets of 4 bytes, and bytes            bytes
 *     Fixed      of `width` bytes                         bytes
 *     Atom       offsets of 4 bytes, and msgpack          as it stands
 *     Constant   one piece of msgpack                     the same in all rows
 *
 * A value whose bit in `validity` (if there is one) is not set is nil.
 *
 * Invariant: nothing outside of the given buffers is read, whatever is in them.
 * Source of the layout: arrow.apache.org/docs/format/Columnar.html.
 */
#pragma once

#include "row_block.hpp"

namespace murmur {

enum class Form : uint8_t {
  Null = 0,
  Boolean = 1,
  Integer = 2,
  Float = 3,
  Decimal = 4,
  Text = 5,
  Binary = 6,
  Fixed = 7,
  Atom = 8,
  Constant = 9,
};

struct ColumnSource {
  Form form = Form::Null;
  uint32_t width = 0;
  size_t offset = 0;  // of the first value, in values
  Slice validity;     // bits; empty: all are there
  Slice offsets;
  Slice values;
};

/* What a column of the table holds. */
struct ColumnRule {
  bool nullable = true;
  bool counter = false;  // NULL is 0
  int64_t bias = 0;      // of an Integer
  int64_t low = INT64_MIN;  // inclusive
  int64_t high = INT64_MAX;
  bool finite = false;     // a Float is a number
  uint32_t precision = 0;  // of a Decimal
  uint32_t scale = 0;
  bool shortest = false;
  uint32_t longest = 0;  // of a Text, in code points; 0: of any length
};

/* Which value cannot be stored, and why; `reason` is nullptr when all can. */
struct BadValue {
  size_t row = 0;
  size_t column = 0;
  const char* reason = nullptr;
};

/* Why a source cannot have so many values; nullptr if it can. */
const char* check_source(const ColumnSource& source, size_t count);

/* Encodes the rows first <= row < first + count. Where keys are row ids, `row_ids` has 16 bytes for
 * each of them. After a bad value the encoder has the rows before it. */
BadValue encode_columns(RowEncoder& encoder, const std::vector<ColumnSource>& sources,
                        const std::vector<ColumnRule>& rules, size_t first, size_t count,
                        Slice row_ids);

}  // namespace murmur
