#include "keycode.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "msgpack.hpp"
#include "text.hpp"

namespace murmur {

namespace {

using Wide = __int128;
using UnsignedWide = unsigned __int128;

constexpr uint8_t NEGATIVE = 1, VALUE = 2, NULL_TAG = 3;  // on disk: never renumber
constexpr uint64_t SIGN = uint64_t{1} << 63;
constexpr uint64_t NAN_BITS = 0x7ff8000000000000u;
constexpr int64_t US_PER_MONTH = int64_t{30} * 86'400'000'000;
constexpr uint32_t NARROW_DIGITS = 18;  // of a decimal in 8 bytes

void store_big(uint8_t* to, UnsignedWide value, size_t width) {
  for (size_t at = width; at-- > 0; value >>= 8) to[at] = static_cast<uint8_t>(value);
}

UnsignedWide load_big(const uint8_t* from, size_t width, uint8_t mask) {
  UnsignedWide value = 0;
  for (size_t at = 0; at < width; ++at) value = value << 8 | static_cast<uint8_t>(from[at] ^ mask);
  return value;
}

Wide ten_to(uint32_t digits) {
  Wide power = 1;
  while (digits--) power *= 10;
  return power;
}

bool is_bytes(FieldKind kind) { return kind == FieldKind::Text || kind == FieldKind::Binary; }

}  // namespace

size_t KeyColumn::width() const {
  switch (field.kind) {
    case FieldKind::Boolean: return 1;
    case FieldKind::Integer: return field.width;
    case FieldKind::Float:
    case FieldKind::Interval: return 8;
    case FieldKind::Decimal: return field.precision <= NARROW_DIGITS ? 8 : 16;
    case FieldKind::Fixed: return field.width;
    case FieldKind::Uuid: return 16;
    case FieldKind::Text:
    case FieldKind::Binary: return 0;
  }
  return 0;
}

void check_columns(const std::vector<KeyColumn>& columns) {
  for (const KeyColumn& column : columns) {
    const FieldSpec& field = column.field;
    const size_t width = column.width();
    bool known = is_bytes(field.kind) || (1 <= width && width <= 256);
    if (field.kind == FieldKind::Integer) known = width == 2 || width == 4 || width == 8;
    if (field.kind == FieldKind::Decimal) {
      known = 1 <= field.precision && field.precision <= 38 && field.scale <= field.precision;
    }
    if (!known) throw InvalidArgument("no key holds a column of this kind or width");
  }
}

// Writing -------------------------------------------------------------------

KeyWriter::KeyWriter(std::vector<KeyColumn> columns) : columns_(std::move(columns)) {
  check_columns(columns_);
}

void KeyWriter::begin(Slice prefix) {
  out_.assign(prefix);
  at_ = 0;
  start_ = out_.size();
}

inline uint8_t* KeyWriter::body(uint8_t tag, size_t width) {
  uint8_t* const to = out_.grow(1 + width);
  to[0] = tag;
  return to + 1;
}

inline void KeyWriter::end() {
  if (columns_[at_].descending) {
    uint8_t* const data = out_.data();
    for (size_t at = start_; at < out_.size(); ++at) data[at] = static_cast<uint8_t>(~data[at]);
  }
  start_ = out_.size();
  ++at_;
}

inline void KeyWriter::number(Wide value, size_t width) {
  store_big(body(VALUE, width), static_cast<UnsignedWide>(value), width);
  end();
}

void KeyWriter::null() {
  body(NULL_TAG, 0);
  end();
}

void KeyWriter::boolean(bool value) { number(value, 1); }

bool KeyWriter::integer(int64_t value) {
  const KeyColumn& column = columns_[at_];
  const size_t width = column.field.width;
  const Wide range = Wide{1} << (8 * width);
  const Wide biased = column.is_signed() ? Wide{value} + (range >> 1) : Wide{value};
  if (biased < 0 || biased >= range) return false;
  number(biased, width);
  return true;
}

bool KeyWriter::unsigned_integer(uint64_t value) {
  const KeyColumn& column = columns_[at_];
  if (column.is_signed() || column.field.width != 8) return false;
  number(value, 8);
  return true;
}

void KeyWriter::floating(double value) {
  uint64_t bits;
  if (value >= 0) {
    value += 0.0;  // -0.0 + 0.0 is 0.0
    std::memcpy(&bits, &value, sizeof bits);
    store_big(body(VALUE, 8), bits, 8);
  } else if (value < 0) {
    std::memcpy(&bits, &value, sizeof bits);
    store_big(body(NEGATIVE, 8), ~bits, 8);
  } else {
    store_big(body(VALUE, 8), NAN_BITS, 8);
  }
  end();
}

bool KeyWriter::decimal(Slice text) {
  const KeyColumn& column = columns_[at_];
  Wide value;
  if (!parse_decimal(text.data, text.size, column.field.precision, column.field.scale, value)) {
    return false;
  }
  const size_t width = column.width();
  // Unsigned: in 16 bytes the sum has no room for a sign.
  const UnsignedWide bias = UnsignedWide{1} << (8 * width - 1);
  store_big(body(VALUE, width), static_cast<UnsignedWide>(value) + bias, width);
  end();
  return true;
}

void KeyWriter::bytes(Slice value) {
  const auto zeros = value.empty() ? 0 : std::count(value.data, value.data + value.size, 0);
  uint8_t* to = body(VALUE, value.size + static_cast<size_t>(zeros) + 2);
  if (zeros == 0) {
    if (!value.empty()) std::memcpy(to, value.data, value.size);
    to += value.size;
  } else {
    for (size_t at = 0; at < value.size; ++at) {
      *to++ = value[at];
      if (value[at] == 0) *to++ = 0xff;
    }
  }
  to[0] = 0;
  to[1] = 1;
  end();
}

bool KeyWriter::fixed(Slice value) {
  const size_t width = columns_[at_].width();
  if (value.size != width) return false;
  std::memcpy(body(VALUE, width), value.data, width);
  end();
  return true;
}

void KeyWriter::interval(int64_t microseconds) {
  number(static_cast<uint64_t>(microseconds) ^ SIGN, 8);
}

bool KeyWriter::interval(Slice value) {
  if (value.size != 12) return false;
  const auto months = static_cast<int32_t>(msgpack::load32(value.data));
  const Wide total =
      Wide{months} * US_PER_MONTH + static_cast<int64_t>(msgpack::load64(value.data + 4));
  if (total < INT64_MIN || total > INT64_MAX) return false;
  interval(static_cast<int64_t>(total));
  return true;
}

// Reading -------------------------------------------------------------------

KeyReader::KeyReader(std::vector<KeyColumn> columns)
    : columns_(std::move(columns)), values_(columns_.size()) {
  check_columns(columns_);
}

BadKey KeyReader::read(Slice key) {
  bytes_.clear();
  size_t at = 0;
  for (size_t each = 0; each < columns_.size(); ++each) {
    const char* const reason = column(columns_[each], key, at, values_[each]);
    if (reason) return {at, reason};
  }
  if (at != key.size) return {at, "it does not end with its last column"};
  return {};
}

const char* KeyReader::column(const KeyColumn& column, Slice key, size_t& at, KeyValue& value) {
  value = {};
  if (at >= key.size) return "it ends within a column";
  const uint8_t mask = column.descending ? 0xff : 0;
  const uint8_t tag = key[at] ^ mask;
  if (tag == NULL_TAG) {
    value.null = true;
    ++at;
    return nullptr;
  }
  if (tag != VALUE && !(tag == NEGATIVE && column.field.kind == FieldKind::Float)) {
    return "unknown tag";
  }
  return body(column, key, at, value);
}

const char* KeyReader::body(const KeyColumn& column, Slice key, size_t& at, KeyValue& value) {
  const FieldSpec& field = column.field;
  const uint8_t mask = column.descending ? 0xff : 0;
  const bool negative = (key[at] ^ mask) == NEGATIVE;
  if (is_bytes(field.kind)) {
    const char* const reason = escaped(key, at, mask, value);
    if (reason || field.kind == FieldKind::Binary) return reason;
    return is_utf8(bytes_.data() + value.start, value.size) ? nullptr : "a text is not UTF-8";
  }
  const size_t width = column.width();
  if (key.size - at - 1 < width) return "it ends within a column";
  const uint8_t* const from = key.data + at + 1;
  if (field.kind == FieldKind::Fixed || field.kind == FieldKind::Uuid) {
    value.start = bytes_.size();
    value.size = width;
    uint8_t* const to = bytes_.grow(width);
    for (size_t each = 0; each < width; ++each) to[each] = from[each] ^ mask;
    at += 1 + width;
    return nullptr;
  }
  const UnsignedWide bits = load_big(from, width, mask);
  switch (field.kind) {
    case FieldKind::Boolean:
      if (bits > 1) return "not a boolean";
      value.truth = bits == 1;
      break;
    case FieldKind::Integer: {
      Wide number = static_cast<Wide>(bits);
      if (column.is_signed()) number -= Wide{1} << (8 * width - 1);
      if (number < field.low || number > field.high) return "out of range";
      value.number = static_cast<int64_t>(number);
      break;
    }
    case FieldKind::Float: {
      const uint64_t own = negative ? ~static_cast<uint64_t>(bits) : static_cast<uint64_t>(bits);
      std::memcpy(&value.floating, &own, sizeof own);
      if (negative) {
        if (!(value.floating < 0)) return "not a number below 0";
      } else if (own >= SIGN || (std::isnan(value.floating) && own != NAN_BITS)) {
        return "not the form that this number has in keys";
      }
      break;
    }
    case FieldKind::Decimal: {
      // Modulo 2^128, so that it is right for both widths.
      const Wide number = static_cast<Wide>(bits - (UnsignedWide{1} << (8 * width - 1)));
      const Wide bound = ten_to(field.precision);
      if (number <= -bound || number >= bound) return "more digits than its column has";
      value.decimal = number;
      break;
    }
    default:  // Interval
      value.number = static_cast<int64_t>(static_cast<uint64_t>(bits) ^ SIGN);
  }
  at += 1 + width;
  return nullptr;
}

const char* KeyReader::escaped(Slice key, size_t& at, uint8_t mask, KeyValue& value) {
  value.start = bytes_.size();
  for (size_t from = at + 1; from < key.size; ++from) {
    const uint8_t byte = key[from] ^ mask;
    if (byte == 0) {
      if (++from == key.size) break;
      const uint8_t next = key[from] ^ mask;
      if (next == 1) {
        value.size = bytes_.size() - value.start;
        at = from + 1;
        return nullptr;
      }
      if (next != 0xff) return "00 without ff";
    }
    *bytes_.grow(1) = byte;
  }
  return "it has no end";
}

}  // namespace murmur
