#include "columns.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "msgpack.hpp"
#include "text.hpp"

namespace murmur {

namespace {

using Wide = __int128;
constexpr size_t BLOCK = ColumnReader::BLOCK;

inline bool is_a(const uint8_t* atom, msgpack::Class wanted) {
  return msgpack::CLASSES[*atom] == wanted;
}

// Adds `count` bits, one for each byte that is not zero, behind the `length` that are there.
void pack_bits(ByteString& bits, int64_t length, const uint8_t* bytes, size_t count) {
  const size_t needed = (static_cast<size_t>(length) + count + 7) / 8;
  if (needed > bits.size()) {
    const size_t more = needed - bits.size();
    std::memset(bits.grow(more), 0, more);
  }
  uint8_t* const data = bits.data();
  size_t each = 0;
  size_t bit = static_cast<size_t>(length);
  for (; each < count && bit % 8; ++each, ++bit) {
    data[bit / 8] |= static_cast<uint8_t>((bytes[each] != 0) << (bit % 8));
  }
  for (; each + 8 <= count; each += 8, bit += 8) {
    uint8_t packed = 0;
    for (size_t next = 0; next < 8; ++next) {
      packed |= static_cast<uint8_t>((bytes[each + next] != 0) << next);
    }
    data[bit / 8] = packed;
  }
  for (; each < count; ++each, ++bit) {
    data[bit / 8] |= static_cast<uint8_t>((bytes[each] != 0) << (bit % 8));
  }
}

void append_validity(Column& column, const uint8_t* valid, size_t count) {
  size_t nulls = 0;
  for (size_t each = 0; each < count; ++each) nulls += !valid[each];
  if (nulls || !column.validity.empty()) {
    if (column.validity.empty()) {
      // All before were there; the bits behind them must be clear.
      const size_t length = static_cast<size_t>(column.length);
      const size_t bytes = (length + 7) / 8;
      uint8_t* const bits = column.validity.grow(bytes);
      if (bytes) std::memset(bits, 0xff, bytes);
      if (length % 8) bits[bytes - 1] = static_cast<uint8_t>((1u << (length % 8)) - 1);
    }
    pack_bits(column.validity, column.length, valid, count);
  }
  column.null_count += static_cast<int64_t>(nulls);
}

inline bool read_integer(const FieldSpec& field, const uint8_t* atom, int64_t& value) {
  return is_a(atom, msgpack::INT) && msgpack::read_int(atom, value) && field.low <= value &&
         value <= field.high;
}

template <class T>
void decode_integers(const FieldSpec& field, const uint8_t* const* slots, size_t count,
                     ByteString& values, uint8_t* valid) {
  uint8_t* out = values.grow(count * sizeof(T));
  for (size_t each = 0; each < count; ++each, out += sizeof(T)) {
    int64_t value = 0;
    const bool there = read_integer(field, slots[each], value);
    valid[each] = there;
    store(out, there ? static_cast<T>(value - field.bias) : T{0});
  }
}

// Whether a number that is finite in 8 bytes would not be in `width`.
inline bool overflows(double value, size_t width) {
  constexpr double beyond = 0x1.ffffffp127;  // from here on a double rounds to infinity as a float
  return width == 4 && std::isfinite(value) && std::fabs(value) >= beyond;
}

template <class T>
void decode_floats(const uint8_t* const* slots, size_t count, ByteString& values, uint8_t* valid) {
  uint8_t* out = values.grow(count * sizeof(T));
  for (size_t each = 0; each < count; ++each, out += sizeof(T)) {
    bool there = is_a(slots[each], msgpack::FLOAT);
    double value = there ? msgpack::read_float(slots[each]) : 0;
    if (overflows(value, sizeof(T))) {
      there = false;
      value = 0;
    }
    valid[each] = there;
    store(out, static_cast<T>(value));
  }
}

void decode_booleans(const uint8_t* const* slots, size_t count, Column& column, uint8_t* valid) {
  uint8_t bits[BLOCK] = {};
  for (size_t each = 0; each < count; ++each) {
    valid[each] = is_a(slots[each], msgpack::BOOL);
    bits[each] = *slots[each] == 0xc3;
  }
  pack_bits(column.values, column.length, bits, count);
}

bool read_decimal(const FieldSpec& field, const uint8_t* atom, Wide& value) {
  if (!is_a(atom, msgpack::TEXT)) return false;
  size_t length;
  const uint8_t* const text = msgpack::read_bytes(atom, length);
  return parse_decimal(text, length, field.precision, field.scale, value);
}

void decode_decimals(const FieldSpec& field, const uint8_t* const* slots, size_t count,
                     ByteString& values, uint8_t* valid) {
  uint8_t* out = values.grow(count * sizeof(Wide));
  for (size_t each = 0; each < count; ++each, out += sizeof(Wide)) {
    Wide value = 0;
    valid[each] = read_decimal(field, slots[each], value);
    store(out, valid[each] ? value : Wide{0});
  }
}

// The bytes of an atom that has exactly so many; nullptr of any other.
const uint8_t* read_fixed(const uint8_t* atom, size_t width) {
  if (!is_a(atom, msgpack::BINARY)) return nullptr;
  size_t length;
  const uint8_t* const bytes = msgpack::read_bytes(atom, length);
  return length == width ? bytes : nullptr;
}

void decode_fixed(const FieldSpec& field, const uint8_t* const* slots, size_t count,
                  ByteString& values, uint8_t* valid) {
  uint8_t* out = values.grow(count * field.width);
  for (size_t each = 0; each < count; ++each, out += field.width) {
    const uint8_t* const bytes = read_fixed(slots[each], field.width);
    valid[each] = bytes != nullptr;
    if (bytes) {
      std::memcpy(out, bytes, field.width);
    } else {
      std::memset(out, 0, field.width);
    }
  }
}

constexpr int64_t US_PER_DAY = 86'400'000'000;
constexpr int64_t US_PER_MONTH = 30 * US_PER_DAY;

struct MonthDayNano {
  int32_t months;
  int32_t days;
  int64_t nanoseconds;
};

bool read_interval(const uint8_t* atom, int32_t& months, int64_t& us) {
  months = 0;
  if (is_a(atom, msgpack::INT)) return msgpack::read_int(atom, us);
  const uint8_t* const bytes = read_fixed(atom, 12);
  if (bytes == nullptr) return false;
  months = static_cast<int32_t>(msgpack::load32(bytes));
  us = static_cast<int64_t>(msgpack::load64(bytes + 4));
  const Wide total = Wide{months} * US_PER_MONTH + us;
  return INT64_MIN <= total && total <= INT64_MAX;
}

void decode_intervals(const uint8_t* const* slots, size_t count, ByteString& values,
                      uint8_t* valid) {
  uint8_t* out = values.grow(count * sizeof(MonthDayNano));
  for (size_t each = 0; each < count; ++each, out += sizeof(MonthDayNano)) {
    MonthDayNano value{0, 0, 0};
    int32_t months;
    int64_t us;
    valid[each] = read_interval(slots[each], months, us);
    if (valid[each]) {
      int64_t days = us / US_PER_DAY, rest = us % US_PER_DAY;
      if (rest < 0) {
        rest += US_PER_DAY;
        --days;
      }
      value = {months, static_cast<int32_t>(days), rest * 1000};
    }
    store(out, value);
  }
}

// memcpy, without a call where there is little to copy.
inline void copy(uint8_t* to, const uint8_t* from, size_t size) {
  if (size > 16) {
    std::memcpy(to, from, size);
  } else if (size >= 8) {
    const uint64_t head = load<uint64_t>(from), tail = load<uint64_t>(from + size - 8);
    store(to, head);
    store(to + size - 8, tail);
  } else if (size >= 4) {
    const uint32_t head = load<uint32_t>(from), tail = load<uint32_t>(from + size - 4);
    store(to, head);
    store(to + size - 4, tail);
  } else {
    for (size_t at = 0; at < size; ++at) to[at] = from[at];
  }
}

// Offsets and data of what has no fixed size; the content of each value is where `bytes` says.
struct Contents {
  const uint8_t* bytes[BLOCK];
  uint32_t sizes[BLOCK];

  void append(Column& column, size_t count) const {
    size_t total = 0;
    for (size_t each = 0; each < count; ++each) total += sizes[each];
    size_t end = column.data.size();
    uint8_t* offsets = column.values.grow(count * 4);
    uint8_t* out = column.data.grow(total);
    for (size_t each = 0; each < count; ++each) {
      const size_t size = sizes[each];
      copy(out, bytes[each], size);
      out += size;
      end += size;
      store(offsets + 4 * each, static_cast<int32_t>(end));
    }
  }
};

void write_uuid(const uint8_t* bytes, uint8_t* out) {
  constexpr char digits[] = "0123456789abcdef";
  for (size_t each = 0; each < 16; ++each) {
    if (each == 4 || each == 6 || each == 8 || each == 10) *out++ = '-';
    *out++ = static_cast<uint8_t>(digits[bytes[each] >> 4]);
    *out++ = static_cast<uint8_t>(digits[bytes[each] & 15]);
  }
}

}  // namespace

bool holds(const FieldSpec& field, const uint8_t* atom) {
  if (is_a(atom, msgpack::NIL)) return true;
  int64_t number;
  int32_t months;
  Wide wide;
  switch (field.kind) {
    case FieldKind::Boolean: return is_a(atom, msgpack::BOOL);
    case FieldKind::Integer: return read_integer(field, atom, number);
    case FieldKind::Float:
      return is_a(atom, msgpack::FLOAT) && !overflows(msgpack::read_float(atom), field.width);
    case FieldKind::Decimal: return read_decimal(field, atom, wide);
    case FieldKind::Text: return is_a(atom, msgpack::TEXT);
    case FieldKind::Binary: return is_a(atom, msgpack::BINARY);
    case FieldKind::Fixed: return read_fixed(atom, field.width) != nullptr;
    case FieldKind::Uuid: return read_fixed(atom, 16) != nullptr;
    case FieldKind::Interval: return read_interval(atom, months, number);
  }
  return false;
}

ColumnReader::ColumnReader(std::vector<FieldSpec> fields)
    : fields_(std::move(fields)), finder_(fields_), slots_(fields_.size() * STRIDE) {
  for (const FieldSpec& field : fields_) {
    missing_bytes_ = std::max(missing_bytes_, field.missing.size());
    bool known = true;
    switch (field.kind) {
      case FieldKind::Boolean:
      case FieldKind::Text:
      case FieldKind::Binary:
      case FieldKind::Uuid:
      case FieldKind::Interval: break;
      case FieldKind::Integer:
        known = field.width == 2 || field.width == 4 || field.width == 8;
        known = known && Wide{field.low} - field.bias >= INT64_MIN;
        known = known && Wide{field.high} - field.bias <= INT64_MAX;
        break;
      case FieldKind::Float: known = field.width == 4 || field.width == 8; break;
      case FieldKind::Decimal:
        known = 1 <= field.precision && field.precision <= 38 && field.scale <= field.precision;
        break;
      case FieldKind::Fixed: known = 1 <= field.width && field.width <= 256; break;
      default: known = false;
    }
    if (!known) throw InvalidArgument("a field of a kind, or of a width, that there is not");
    if (field.kind == FieldKind::Text) {
      size_t size = 0;
      const auto* missing = reinterpret_cast<const uint8_t*>(field.missing.data());
      const bool text = is_a(missing, msgpack::TEXT);
      const uint8_t* const bytes = text ? msgpack::read_bytes(missing, size) : nullptr;
      if (!is_utf8(bytes, size)) throw InvalidArgument("what a missing field reads is not UTF-8");
    }
  }
  open();
}

BadCell ColumnReader::add(const uint8_t* values, size_t size, const uint8_t* offsets,
                          size_t count) {
  const uint8_t* cells[BLOCK];
  size_t sizes[BLOCK];
  for (size_t first = 0; first < count; first += BLOCK) {
    const size_t some = std::min(count - first, BLOCK);
    for (size_t each = 0; each < some; ++each) {
      const size_t start = load<uint32_t>(offsets + 4 * (first + each));
      const size_t stop = load<uint32_t>(offsets + 4 * (first + each) + 4);
      if (start > stop || stop > size) return {first + each, 0, "the cell is outside of its chunk"};
      cells[each] = values + start;
      sizes[each] = stop - start;
    }
    BadCell bad = add(cells, sizes, some);
    if (bad.reason) {
      bad.cell += first;
      return bad;
    }
  }
  return {};
}

BadCell ColumnReader::add(const uint8_t* const* cells, const size_t* sizes, size_t count) {
  try {
    for (size_t first = 0; first < count;) {
      const size_t room = static_cast<size_t>(BATCH_ROWS - rows_);
      const size_t most = std::min({count - first, BLOCK, room});
      size_t some = 0, bytes = 0;
      while (some < most) {
        const size_t more = sizes[first + some] + missing_bytes_;
        if (some && bytes + more > BLOCK_BYTES) break;
        bytes += more;
        ++some;
      }
      // A UUID is written with 36 letters, and its atom has 18 bytes.
      if (bytes > MAX_TEXT / 2) return {first, 0, "the cell is too long"};
      size_t longest = 0;
      for (const auto& column : batch_) longest = std::max(longest, column->data.size());
      if (longest + 2 * bytes > MAX_TEXT) {
        close();
        open();
        continue;
      }
      block(cells + first, sizes + first, some, first);
      first += some;
      if (rows_ == BATCH_ROWS) {
        close();
        open();
      }
    }
  } catch (const BadCell& bad) {
    return bad;
  }
  return {};
}

void ColumnReader::block(const uint8_t* const* cells, const size_t* sizes, size_t count,
                         size_t first) {
  finder_.forget();
  for (size_t each = 0; each < count; ++each) {
    try {
      finder_.find(cells[each], sizes[each], slots_.data() + each, STRIDE);
    } catch (BadCell& bad) {
      bad.cell = first + each;
      throw;
    }
  }
  for (size_t field = 0; field < fields_.size(); ++field) decode(field, cells, count, first);
  rows_ += static_cast<int64_t>(count);
  if (rows_ >= FEW_ROWS && !reserved_) reserve();
}

// Room for a whole batch, so that nothing is copied again. What is never touched costs nothing.
void ColumnReader::reserve() {
  const auto rows = static_cast<size_t>(rows_);
  for (const auto& column : batch_) {
    for (ByteString* buffer : {&column->values, &column->data}) {
      const size_t size = buffer->size();
      const size_t whole = std::min(size / rows * BATCH_ROWS / 8 * 9 + BATCH_ROWS, MAX_TEXT);
      if (size == 0 || whole <= size) continue;
      buffer->grow(whole - size);
      buffer->truncate(size);
    }
  }
  reserved_ = true;
}

void ColumnReader::decode(size_t at, const uint8_t* const* cells, size_t count, size_t first) {
  const FieldSpec& field = fields_[at];
  Column& column = *batch_[at];
  const uint8_t* const* const slots = slots_.data() + at * STRIDE;
  uint8_t valid[BLOCK];
  switch (field.kind) {
    case FieldKind::Boolean: decode_booleans(slots, count, column, valid); break;
    case FieldKind::Integer:
      switch (field.width) {
        case 2: decode_integers<int16_t>(field, slots, count, column.values, valid); break;
        case 4: decode_integers<int32_t>(field, slots, count, column.values, valid); break;
        default: decode_integers<int64_t>(field, slots, count, column.values, valid);
      }
      break;
    case FieldKind::Float:
      if (field.width == 4) {
        decode_floats<float>(slots, count, column.values, valid);
      } else {
        decode_floats<double>(slots, count, column.values, valid);
      }
      break;
    case FieldKind::Decimal: decode_decimals(field, slots, count, column.values, valid); break;
    case FieldKind::Fixed: decode_fixed(field, slots, count, column.values, valid); break;
    case FieldKind::Interval: decode_intervals(slots, count, column.values, valid); break;
    case FieldKind::Text:
    case FieldKind::Binary: {
      const bool text = field.kind == FieldKind::Text;
      const msgpack::Class wanted = text ? msgpack::TEXT : msgpack::BINARY;
      Contents contents = {};
      for (size_t each = 0; each < count; ++each) {
        valid[each] = is_a(slots[each], wanted);
        size_t size = 0;
        if (valid[each]) contents.bytes[each] = msgpack::read_bytes(slots[each], size);
        contents.sizes[each] = static_cast<uint32_t>(size);
        if (text && size && !is_utf8(contents.bytes[each], size)) {
          const auto offset = static_cast<size_t>(contents.bytes[each] - cells[each]);
          throw BadCell{first + each, offset, "a text is not UTF-8"};
        }
      }
      contents.append(column, count);
      break;
    }
    case FieldKind::Uuid: {
      Contents contents = {};
      uint8_t texts[BLOCK * 36];
      for (size_t each = 0; each < count; ++each) {
        const uint8_t* const bytes = read_fixed(slots[each], 16);
        valid[each] = bytes != nullptr;
        if (bytes) write_uuid(bytes, texts + 36 * each);
        contents.bytes[each] = texts + 36 * each;
        contents.sizes[each] = valid[each] ? 36 : 0;
      }
      contents.append(column, count);
      break;
    }
  }
  append_validity(column, valid, count);
  column.length += static_cast<int64_t>(count);
}

void ColumnReader::open() {
  Batch batch;
  for (const FieldSpec& field : fields_) {
    auto column = std::make_shared<Column>();
    column->format = field.format;
    column->three_buffers = field.kind == FieldKind::Text || field.kind == FieldKind::Binary ||
                            field.kind == FieldKind::Uuid;
    if (column->three_buffers) column->values.append_number<int32_t>(0);
    batch.push_back(std::move(column));
  }
  batch_ = std::move(batch);
  rows_ = 0;
  reserved_ = false;
}

void ColumnReader::close() { closed_.push_back(batch_); }

std::vector<Batch> ColumnReader::take() {
  if (rows_ || closed_.empty()) close();
  std::vector<Batch> taken = std::exchange(closed_, {});
  open();
  return taken;
}

// Exporting -----------------------------------------------------------------

namespace {

struct Export {
  std::shared_ptr<Column> column;
  const void* buffers[3];
};

void release_array(ArrowArray* array) {
  delete static_cast<Export*>(array->private_data);
  array->release = nullptr;
}

void release_schema(ArrowSchema* schema) {
  delete static_cast<std::string*>(schema->private_data);
  schema->release = nullptr;
}

}  // namespace

void export_array(const std::shared_ptr<Column>& column, ArrowArray* out) {
  // A column without rows has no memory of its own; readers want an address nevertheless.
  static const uint64_t nothing[8] = {};
  auto* shared = new Export{column, {}};
  const bool nulls = column->null_count != 0;
  shared->buffers[0] = nulls ? column->validity.data() : nullptr;
  shared->buffers[1] = column->values.size() ? static_cast<const void*>(column->values.data()) : nothing;
  shared->buffers[2] = column->data.size() ? static_cast<const void*>(column->data.data()) : nothing;
  *out = {};
  out->length = column->length;
  out->null_count = column->null_count;
  out->n_buffers = column->three_buffers ? 3 : 2;
  out->buffers = shared->buffers;
  out->release = release_array;
  out->private_data = shared;
}

void export_schema(const std::string& format, ArrowSchema* out) {
  auto* kept = new std::string(format);
  *out = {};
  out->format = kept->c_str();
  out->name = "";
  out->flags = ARROW_FLAG_NULLABLE;
  out->release = release_schema;
  out->private_data = kept;
}

}  // namespace murmur
