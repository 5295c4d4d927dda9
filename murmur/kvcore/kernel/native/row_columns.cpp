#include "row_columns.hpp"

#include <cmath>

#include "text.hpp"

namespace murmur {

namespace {

using Wide = __int128;

constexpr size_t MOST = size_t{1} << 40;  // values: so that sums and products of sizes fit
constexpr size_t ROW_ID_SIZE = 16;

bool bit(Slice bits, size_t at) { return bits[at >> 3] >> (at & 7) & 1; }

Wide ten_to(uint32_t digits) {
  Wide power = 1;
  while (digits--) power *= 10;
  return power;
}

size_t code_points(Slice text) {
  size_t count = 0;
  for (size_t at = 0; at < text.size; ++at) count += (text[at] & 0xc0) != 0x80;
  return count;
}

/* Writes one value; the reason if it cannot be stored. */
const char* write(RowEncoder& encoder, const ColumnSource& source, const ColumnRule& rule, size_t row,
                  ByteString& scratch, Wide bound) {
  const size_t at = source.offset + row;
  if (source.form == Form::Null || (source.validity.size && !bit(source.validity, at))) {
    if (rule.counter) {
      encoder.integer(0);
      return nullptr;
    }
    if (!rule.nullable) return "null";
    encoder.null();
    return nullptr;
  }
  switch (source.form) {
    case Form::Boolean:
      encoder.boolean(bit(source.values, at));
      return nullptr;
    case Form::Integer: {
      const uint8_t* from = source.values.data + at * source.width;
      const int64_t stored = source.width == 2   ? load<int16_t>(from)
                             : source.width == 4 ? load<int32_t>(from)
                                                 : load<int64_t>(from);
      int64_t value;
      if (__builtin_add_overflow(stored, rule.bias, &value) || value < rule.low || value > rule.high)
        return "out of range";
      encoder.integer(value);
      return nullptr;
    }
    case Form::Float: {
      const uint8_t* from = source.values.data + at * source.width;
      const double value =
          source.width == 4 ? static_cast<double>(load<float>(from)) : load<double>(from);
      if (rule.finite && std::isnan(value)) return "not a number";
      encoder.floating(value);
      return nullptr;
    }
    case Form::Decimal: {
      const Wide value = load<Wide>(source.values.data + 16 * at);
      if (value <= -bound || value >= bound) return "too many digits";
      scratch.clear();
      format_decimal(value, rule.scale, rule.shortest, scratch);
      encoder.text(scratch.slice());
      return nullptr;
    }
    case Form::Text:
    case Form::Binary:
    case Form::Atom: {
      const int32_t start = load<int32_t>(source.offsets.data + 4 * at);
      const int32_t stop = load<int32_t>(source.offsets.data + 4 * at + 4);
      if (start < 0 || stop < start || static_cast<size_t>(stop) > source.values.size)
        return "it lies outside of its column";
      const Slice value{source.values.data + start, static_cast<size_t>(stop - start)};
      if (source.form == Form::Binary) {
        encoder.binary(value);
        return nullptr;
      }
      if (source.form == Form::Atom) return encoder.atom(value) ? nullptr : "not an atom";
      if (value.size && std::memchr(value.data, 0, value.size)) return "it has a NUL";
      if (!is_utf8(value.data, value.size)) return "not UTF-8";
      if (rule.longest && value.size > rule.longest && code_points(value) > rule.longest)
        return "too long";
      encoder.text(value);
      return nullptr;
    }
    case Form::Fixed:
      encoder.binary({source.values.data + at * source.width, source.width});
      return nullptr;
    case Form::Constant: return encoder.atom(source.values) ? nullptr : "not an atom";
    case Form::Null: break;
  }
  return "of an unknown form";
}

}  // namespace

const char* check_source(const ColumnSource& source, size_t count) {
  if (count > MOST || source.offset > MOST) return "it has too many values";
  const size_t end = source.offset + count;
  if (source.validity.size && source.validity.size < (end + 7) / 8) return "its validity is too short";
  switch (source.form) {
    case Form::Null:
    case Form::Constant: return nullptr;
    case Form::Boolean: return source.values.size < (end + 7) / 8 ? "it is too short" : nullptr;
    case Form::Integer:
      if (source.width != 2 && source.width != 4 && source.width != 8) return "of an unknown width";
      return source.values.size / source.width < end ? "it is too short" : nullptr;
    case Form::Float:
      if (source.width != 4 && source.width != 8) return "of an unknown width";
      return source.values.size / source.width < end ? "it is too short" : nullptr;
    case Form::Decimal: return source.values.size / 16 < end ? "it is too short" : nullptr;
    case Form::Fixed:
      if (source.width == 0 || source.width > 256) return "of an unknown width";
      return source.values.size / source.width < end ? "it is too short" : nullptr;
    case Form::Text:
    case Form::Binary:
    case Form::Atom: return count && source.offsets.size / 4 < end + 1 ? "it is too short" : nullptr;
  }
  return "of an unknown form";
}

BadValue encode_columns(RowEncoder& encoder, const std::vector<ColumnSource>& sources,
                        const std::vector<ColumnRule>& rules, size_t first, size_t count,
                        Slice row_ids) {
  if (sources.size() != encoder.columns() || rules.size() != sources.size())
    return {first, 0, "a source for each column is needed"};
  if (row_ids.size && row_ids.size / ROW_ID_SIZE < count) return {first, 0, "its id is missing"};
  std::vector<Wide> bounds;
  for (size_t column = 0; column < sources.size(); ++column) {
    if (const char* reason = check_source(sources[column], first + count)) return {first, column, reason};
    if (rules[column].precision > 38) return {first, column, "too many digits"};
    bounds.push_back(ten_to(rules[column].precision));
  }
  ByteString scratch;
  for (size_t row = first; row < first + count; ++row) {
    for (size_t column = 0; column < sources.size(); ++column) {
      const char* reason =
          write(encoder, sources[column], rules[column], row, scratch, bounds[column]);
      if (reason) {
        encoder.drop();
        return {row, column, reason};
      }
    }
    const Slice id =
        row_ids.size ? Slice{row_ids.data + ROW_ID_SIZE * (row - first), ROW_ID_SIZE} : Slice();
    if (!encoder.end(id)) {
      encoder.drop();
      return {row, 0, "not of its key"};
    }
  }
  return {};
}

}  // namespace murmur
