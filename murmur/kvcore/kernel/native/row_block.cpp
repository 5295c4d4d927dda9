#include "row_block.hpp"

#include <algorithm>
#include <numeric>

#include "crc32.hpp"
#include "msgpack.hpp"
#include "scan.hpp"
#include "varint.hpp"

namespace murmur {

namespace {

constexpr uint8_t ROWS = 7;                    // record.py
constexpr size_t LONGEST_KEY = 64 << 10;       // of a record's operations
constexpr size_t LONGEST_BODY = UINT32_MAX / 2;
constexpr size_t MOST_ROWS = size_t{1} << 31;
constexpr size_t LARGE = 1 << 20;              // of a block, in bytes
constexpr size_t PIECE_ROWS = 64;              // of the tree, read at a time
constexpr size_t PIECE_BYTES = 64 << 10;

size_t integer_size(int64_t value) {
  if (value >= 0) {
    return value < 0x80 ? 1 : value < 0x100 ? 2 : value < 0x10000 ? 3 : value <= UINT32_MAX ? 5 : 9;
  }
  return value >= -0x20 ? 1 : value >= INT8_MIN ? 2 : value >= INT16_MIN ? 3 : value >= INT32_MIN ? 5 : 9;
}

template <class T>
uint8_t* put_number(uint8_t* to, uint8_t first, T value) {
  *to = first;
  if constexpr (sizeof(T) == 1) to[1] = static_cast<uint8_t>(value);
  if constexpr (sizeof(T) == 2) store(to + 1, static_cast<uint16_t>(__builtin_bswap16(value)));
  if constexpr (sizeof(T) == 4) store(to + 1, static_cast<uint32_t>(__builtin_bswap32(value)));
  if constexpr (sizeof(T) == 8) store(to + 1, static_cast<uint64_t>(__builtin_bswap64(value)));
  return to + 1 + sizeof(T);
}

/* The shortest form of an integer, as msgpack for Python writes it. */
uint8_t* put_integer(uint8_t* to, int64_t value) {
  switch (integer_size(value)) {
    case 1: *to = static_cast<uint8_t>(value); return to + 1;
    case 2: return put_number(to, value < 0 ? 0xd0 : 0xcc, static_cast<uint8_t>(value));
    case 3: return put_number(to, value < 0 ? 0xd1 : 0xcd, static_cast<uint16_t>(value));
    case 5: return put_number(to, value < 0 ? 0xd2 : 0xce, static_cast<uint32_t>(value));
    default: return put_number(to, value < 0 ? 0xd3 : 0xcf, static_cast<uint64_t>(value));
  }
}

/* As above, above the largest signed integer too. */
uint8_t* put_unsigned(uint8_t* to, uint64_t value) {
  if (value <= INT64_MAX) return put_integer(to, static_cast<int64_t>(value));
  return put_number(to, 0xcf, value);
}

void append_integer(ByteString& out, uint64_t value) {
  uint8_t bytes[9];
  out.append(bytes, static_cast<size_t>(put_unsigned(bytes, value) - bytes));
}

size_t binary_head(size_t size) { return size < 0x100 ? 2 : size < 0x10000 ? 3 : 5; }

uint8_t* put_binary_head(uint8_t* to, size_t size) {
  if (size < 0x100) return put_number(to, 0xc4, static_cast<uint8_t>(size));
  if (size < 0x10000) return put_number(to, 0xc5, static_cast<uint16_t>(size));
  return put_number(to, 0xc6, static_cast<uint32_t>(size));
}

void append_ids(ByteString& out, const std::vector<uint32_t>& ids) {
  if (ids.size() < 16) *out.grow(1) = static_cast<uint8_t>(0x90 | ids.size());
  else if (ids.size() < 0x10000) put_number(out.grow(3), 0xdc, static_cast<uint16_t>(ids.size()));
  else put_number(out.grow(5), 0xdd, static_cast<uint32_t>(ids.size()));
  for (const uint32_t id : ids) append_integer(out, id);
}

std::shared_ptr<const RowShape> shape_of(const BlockPlan& plan) {
  const size_t fields = plan.fields.size(), counters = plan.counters.size();
  auto shape = std::make_shared<RowShape>();
  shape->prefix = plan.prefix;
  ByteString head, ids;
  *head.grow(1) = counters ? 0x92 : 0x91;
  append_map(head, fields);
  shape->head = head.slice().string();
  shape->common = head.size();
  for (size_t at = 0; at < fields + counters; ++at) {
    ByteString lead;
    if (at == fields) append_map(lead, counters);
    append_integer(lead, at < fields ? plan.fields[at] : plan.counters[at - fields]);
    RowShape::Lead& made = shape->leads.emplace_back();
    made.size = lead.size();
    std::memcpy(made.bytes, lead.data(), lead.size());
    shape->common += lead.size();
  }
  append_ids(ids, plan.fields);
  append_ids(ids, plan.counters);
  shape->fields = ids.slice().string();
  return shape;
}

/* Copies few bytes without a call; there are NEAR_BYTES more to be read, and to be overwritten. */
inline uint8_t* put_near(uint8_t* to, const uint8_t* from, size_t size) {
  if (size <= NEAR_BYTES) std::memcpy(to, from, NEAR_BYTES);
  else std::memcpy(to, from, size);
  return to + size;
}

/* A body but for its first bytes: each atom behind what precedes it. */
uint8_t* put_fields(uint8_t* to, const RowShape& shape, Slice atoms) {
  const uint8_t* from = atoms.data;
  const uint8_t* const end = atoms.data + atoms.size;
  for (const RowShape::Lead& lead : shape.leads) {
    const uint8_t* const next = msgpack::skip(from, end);
    to = put_near(to, lead.bytes, lead.size);
    to = put_near(to, from, static_cast<size_t>(next - from));
    from = next;
  }
  return to;
}

bool by_bytes(Slice left, Slice right) { return left.compare(right) < 0; }

/* Walks ascending probes along a range of the tree; the first that some key there begins with. */
template <class Probe>
size_t first_present(const Reads& reads, uint64_t sequence, size_t count, Probe probe) {
  if (!count) return NO_ROW;
  const Slice last = probe(count - 1);
  std::string stop = last.string();
  while (!stop.empty() && stop.back() == '\xff') stop.pop_back();
  const bool bounded = !stop.empty();
  if (bounded) stop.back() = static_cast<char>(stop.back() + 1);
  size_t at = 0;
  while (at < count) {
    // From the probe on: a dense tree is walked, in a sparse one every probe is sought.
    Scan scan(reads, probe(at), stop, bounded, sequence, false);
    Rows rows;
    const bool more = scan.fill(rows, PIECE_ROWS, PIECE_BYTES);
    for (size_t row = 0; row < rows.count(); ++row) {
      const Slice key = rows.key(row);
      while (at < count && probe(at) < key && !key.starts_with(probe(at))) ++at;
      if (at == count) return NO_ROW;
      if (key.starts_with(probe(at))) return at;
    }
    if (!more) return NO_ROW;
  }
  return NO_ROW;
}

}  // namespace

void append_map(ByteString& out, size_t count) {
  if (count < 16) {
    *out.grow(1) = static_cast<uint8_t>(0x80 | count);
  } else if (count < 0x10000) {
    put_number(out.grow(3), 0xde, static_cast<uint16_t>(count));
  } else {
    put_number(out.grow(5), 0xdf, static_cast<uint32_t>(count));
  }
}

// RowBlock ------------------------------------------------------------------

Slice RowBlock::rest(size_t row) const {
  const Row& one = rows_[row];
  return {bytes_.data() + one.start + one.size - one.rest, one.rest};
}

Slice RowBlock::atoms(size_t row) const {
  const Row& one = rows_[row];
  return {bytes_.data() + one.start, one.size - one.rest - binary_head(one.rest)};
}

void RowBlock::key(size_t row, ByteString& out) const {
  out.append(shape_->prefix);
  out.append(rest(row));
}

void RowBlock::body(size_t row, ByteString& out) const {
  const Slice own = atoms(row);
  const size_t size = out.size() + shape_->common + own.size;
  uint8_t* to = out.grow(shape_->common + own.size + NEAR_BYTES);
  put_fields(put_bytes(to, shape_->head), *shape_, own);
  out.truncate(size);
}

size_t RowBlock::lower_bound(Slice wanted) const {
  const Slice prefix = shape_->prefix;
  if (!wanted.starts_with(prefix)) return wanted < prefix ? 0 : count();
  wanted = wanted.after(prefix.size);
  size_t low = 0, high = count();
  while (low < high) {
    const size_t middle = low + (high - low) / 2;
    if (rest(middle) < wanted) low = middle + 1;
    else high = middle;
  }
  return low;
}

size_t RowBlock::find(Slice wanted) const {
  const size_t row = lower_bound(wanted), prefix = shape_->prefix.size();
  const bool found = row < count() && wanted.starts_with(shape_->prefix);
  return found && rest(row) == wanted.after(prefix) ? row : NO_ROW;
}

bool RowBlock::touches(Slice start, Slice stop, bool bounded) const {
  if (lower_bound(start) < (bounded ? lower_bound(stop) : count())) return true;
  for (size_t plan = 0; plan < plans(); ++plan) {
    const Slice prefix = prefixes_[plan];
    if (kinds_[plan] == EntryKind::Parent || entries_[plan].keys.empty()) continue;
    if (bounded && stop <= prefix) continue;
    if (start < prefix || start.starts_with(prefix)) return true;
  }
  return false;
}

void RowBlock::operation_head(ByteString& out) const {
  if (!count()) return;
  ByteString number;
  append_integer(number, count());
  const std::string& prefix = shape_->prefix;
  const size_t payload = shape_->fields.size() + number.size() + bytes_.size();
  uint8_t* to = out.grow(1 + varint_size(prefix.size()) + prefix.size() + varint_size(payload));
  *to++ = ROWS;
  to = put_bytes(put_varint(to, prefix.size()), prefix);
  put_varint(to, payload);
  out.append(shape_->fields);
  out.append(number.slice());
}

namespace {

void append_author(ByteString& out, const RowAuthor& author) {
  *out.grow(1) = 1;
  append_integer(out, author.stamp);
  uint8_t* replica = out.grow(2 + sizeof author.replica);
  replica[0] = 0xc4;
  replica[1] = sizeof author.replica;
  std::memcpy(replica + 2, author.replica, sizeof author.replica);
  append_integer(out, author.seq);
}

}  // namespace

void RowBlock::cell(size_t row, const RowAuthor& author, ByteString& out) const {
  ByteString head;
  cell_head(author, head);
  cell(row, head.slice(), out);
}

void RowBlock::cell_head(const RowAuthor& author, ByteString& out) const {
  *out.grow(1) = static_cast<uint8_t>(shape_->head[0] + 4);  // an array of so many more
  append_author(out, author);
  out.append(Slice(shape_->head).after(1));
}

void RowBlock::cell(size_t row, Slice head, ByteString& out) const {
  const Slice own = atoms(row);
  const size_t size = head.size + shape_->common - shape_->head.size() + own.size;
  const size_t end = out.size() + size;
  uint8_t* to = out.grow(size + NEAR_BYTES);
  put_fields(put_bytes(to, head), *shape_, own);
  out.truncate(end);
}

void RowBlock::writes(const RowAuthor& author, ByteString& cells, Vector<Operation>& out) const {
  ByteString head;
  cell_head(author, head);
  const Slice prefix = shape_->prefix;
  size_t size = 0, writes = count();
  const size_t common = prefix.size + head.size() + shape_->common - shape_->head.size();
  for (const Row& row : rows_) size += common + row.size - binary_head(row.rest);
  for (size_t plan = 0; plan < plans(); ++plan) {
    if (kinds_[plan] != EntryKind::Parent) {
      size += 2 * entries_[plan].keys.size();
      writes += entries_[plan].keys.size();
    }
  }
  out.reserve(out.size() + writes);
  uint8_t* to = cells.grow(size + NEAR_BYTES);  // at once: the slices must not move
  for (size_t row = 0; row < count(); ++row) {
    uint8_t* const start = to;
    to = put_bytes(put_bytes(to, prefix), rest(row));
    const Slice under{start, static_cast<size_t>(to - start)};
    uint8_t* const cell = to;
    to = put_fields(put_bytes(to, head.slice()), *shape_, atoms(row));
    out.push_back({under, {cell, static_cast<size_t>(to - cell)}, crc32(under), false});
  }
  for (size_t plan = 0; plan < plans(); ++plan) {
    if (kinds_[plan] == EntryKind::Parent) continue;
    const EncodedKeys& entries = entries_[plan];
    for (size_t at = 0; at < entries.keys.size(); ++at) {
      const size_t own = entries.keys[at].size - entries.keys[at].values;
      to[0] = static_cast<uint8_t>(own >> 8);
      to[1] = static_cast<uint8_t>(own);
      out.push_back({entries.key(at), {to, 2}, crc32(entries.key(at)), false});
      to += 2;
    }
  }
}

size_t RowBlock::claim_of(size_t plan, Slice key) const {
  const Vector<uint32_t>& claims = asked_[plan];
  // Values of one plan are prefix-free, so the last one not above the key is the only candidate.
  size_t low = 0, high = claims.size();
  while (low < high) {
    const size_t middle = low + (high - low) / 2;
    if (asked(plan, middle) <= key) low = middle + 1;
    else high = middle;
  }
  return low && key.starts_with(asked(plan, low - 1)) ? low - 1 : NO_ROW;
}

size_t RowBlock::present_key(const Reads& reads, uint64_t sequence) const {
  ByteString probe;
  return first_present(reads, sequence, count(), [&](size_t at) {
    probe.clear();
    key(at, probe);
    return probe.slice();
  });
}

size_t RowBlock::present_claim(size_t plan, const Reads& reads, uint64_t sequence) const {
  return first_present(reads, sequence, asked_count(plan), [&](size_t at) { return asked(plan, at); });
}

size_t RowBlock::shared_key(const RowBlock& other) const {
  if (!count() || !other.count() || other.rest(other.count() - 1) < rest(0)) return NO_ROW;
  for (size_t own = 0, its = 0; own < count() && its < other.count();) {
    const int order = rest(own).compare(other.rest(its));
    if (!order) return own;
    ++(order < 0 ? own : its);
  }
  return NO_ROW;
}

size_t RowBlock::shared_claim(size_t plan, const RowBlock& other) const {
  for (size_t own = 0, its = 0; own < asked_count(plan) && its < other.asked_count(plan);) {
    const int order = asked(plan, own).compare(other.asked(plan, its));
    if (!order) return own;
    ++(order < 0 ? own : its);
  }
  return NO_ROW;
}

// RowEncoder ----------------------------------------------------------------

RowEncoder::RowEncoder(BlockPlan plan)
    : plan_(std::move(plan)), shape_(shape_of(plan_)), key_(plan_.keys),
      block_(std::make_unique<RowBlock>()) {
  const size_t columns = shape_->leads.size();
  bool sound = plan_.keys.size() == plan_.key_columns.size();
  for (const size_t column : plan_.key_columns) sound = sound && column < columns;
  for (const EntryPlan& entry : plan_.entries) {
    sound = sound && !entry.keys.empty() && entry.keys.size() == entry.columns.size();
    for (const size_t column : entry.columns) sound = sound && column < columns;
    writers_.emplace_back(entry.keys);
  }
  if (!sound) throw InvalidArgument("the plan of a block speaks of columns that it does not have");
  slots_.resize(columns);
  block_->shape_ = shape_;
  block_->entries_.resize(plan_.entries.size());
}

void RowEncoder::begin() {
  if (block_->bytes_.size() > ended_) block_->bytes_.truncate(ended_);
  at_ = 0;
}

void RowEncoder::drop() {
  begin();
  const size_t rows = count();
  for (EncodedKeys& entries : block_->entries_) {
    while (!entries.keys.empty() && entries.keys.back().row >= rows) entries.keys.pop_back();
    const size_t end = entries.keys.empty() ? 0 : entries.keys.back().start + entries.keys.back().size;
    if (entries.bytes.size() > end) entries.bytes.truncate(end);
  }
}

uint8_t* RowEncoder::next(size_t size) {
  if (at_ == slots_.size()) throw InvalidArgument("a row has more values than columns");
  ByteString& bytes = block_->bytes_;
  const size_t start = bytes.size();
  uint8_t* to = bytes.grow(size);
  slots_[at_++] = static_cast<uint32_t>(start - ended_);
  return to;
}

void RowEncoder::check_size(size_t more) const {
  if (block_->bytes_.size() - ended_ + more > LONGEST_BODY)
    throw InvalidArgument("a row is longer than 2 GiB");
}

void RowEncoder::null() { *next(1) = 0xc0; }
void RowEncoder::boolean(bool value) { *next(1) = value ? 0xc3 : 0xc2; }
void RowEncoder::integer(int64_t value) { put_integer(next(integer_size(value)), value); }
void RowEncoder::unsigned_integer(uint64_t value) {
  if (value <= INT64_MAX) integer(static_cast<int64_t>(value));
  else put_unsigned(next(9), value);
}
void RowEncoder::floating(double value) {
  uint64_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  put_number(next(9), 0xcb, bits);
}

void RowEncoder::text(Slice value) {
  check_size(value.size);
  uint8_t* to;
  if (value.size < 32) {
    to = next(1 + value.size);
    *to++ = static_cast<uint8_t>(0xa0 | value.size);
  } else if (value.size < 0x100) {
    to = put_number(next(2 + value.size), 0xd9, static_cast<uint8_t>(value.size));
  } else if (value.size < 0x10000) {
    to = put_number(next(3 + value.size), 0xda, static_cast<uint16_t>(value.size));
  } else {
    to = put_number(next(5 + value.size), 0xdb, static_cast<uint32_t>(value.size));
  }
  put_bytes(to, value);
}

void RowEncoder::binary(Slice value) {
  check_size(value.size);
  put_bytes(put_binary_head(next(binary_head(value.size) + value.size), value.size), value);
}

bool RowEncoder::atom(Slice packed) {
  if (packed.empty() || msgpack::skip(packed.data, packed.data + packed.size) != packed.data + packed.size)
    return false;
  check_size(packed.size);
  put_bytes(next(packed.size), packed);
  return true;
}

bool RowEncoder::put(KeyWriter& writer, const KeyColumn& column, const uint8_t* atom) const {
  const uint8_t kind = msgpack::CLASSES[*atom];
  size_t size;
  if (kind == msgpack::NIL) {
    writer.null();
    return true;
  }
  switch (column.field.kind) {
    case FieldKind::Boolean:
      if (kind != msgpack::BOOL) return false;
      writer.boolean(*atom == 0xc3);
      return true;
    case FieldKind::Integer: {
      int64_t value;
      if (kind != msgpack::INT) return false;
      if (msgpack::read_int(atom, value)) return writer.integer(value);
      return writer.unsigned_integer(static_cast<uint64_t>(value));
    }
    case FieldKind::Interval: {
      int64_t value;
      if (kind == msgpack::BINARY) {
        const uint8_t* start = msgpack::read_bytes(atom, size);
        return writer.interval(Slice(start, size));
      }
      if (kind != msgpack::INT || !msgpack::read_int(atom, value)) return false;
      writer.interval(value);
      return true;
    }
    case FieldKind::Float:
      if (kind != msgpack::FLOAT) return false;
      writer.floating(msgpack::read_float(atom));
      return true;
    case FieldKind::Decimal:
    case FieldKind::Text: {
      if (kind != msgpack::TEXT) return false;
      const uint8_t* start = msgpack::read_bytes(atom, size);
      if (column.field.kind == FieldKind::Decimal) return writer.decimal({start, size});
      writer.bytes({start, size});
      return true;
    }
    default: {
      if (kind != msgpack::BINARY) return false;
      const uint8_t* start = msgpack::read_bytes(atom, size);
      if (column.field.kind != FieldKind::Binary) return writer.fixed({start, size});
      writer.bytes({start, size});
      return true;
    }
  }
}

bool RowEncoder::write_key(Slice row_id) {
  key_.begin(Slice());
  for (size_t at = 0; at < plan_.keys.size(); ++at) {
    if (!put(key_, plan_.keys[at], slot(plan_.key_columns[at]))) return false;
  }
  const size_t size = plan_.prefix.size() + key_.slice().size + row_id.size;
  if (size > LONGEST_KEY) {
    throw InvalidArgument("a key of " + std::to_string(size) + " bytes is longer than 65,536");
  }
  return true;
}

bool RowEncoder::write_entry(size_t at, Slice primary_key) {
  const EntryPlan& plan = plan_.entries[at];
  KeyWriter& writer = writers_[at];
  bool whole = true;
  writer.begin(plan.prefix);
  for (size_t each = 0; each < plan.keys.size(); ++each) {
    const uint8_t* atom = slot(plan.columns[each]);
    whole = whole && *atom != 0xc0;
    if (!put(writer, plan.keys[each], atom)) return false;
  }
  if (!whole && plan.kind >= EntryKind::Child) return true;
  EncodedKeys& entries = block_->entries_[at];
  const Slice values = writer.slice();
  const Slice own = plan.kind == EntryKind::Parent ? Slice() : primary_key;
  if (values.size + own.size > LONGEST_BODY) throw InvalidArgument("an entry is longer than 2 GiB");
  const EncodedKeys::Key key{entries.bytes.size(), static_cast<uint32_t>(values.size + own.size),
                             static_cast<uint32_t>(values.size), static_cast<uint32_t>(count()), whole};
  entries.keys.push_back(key);
  put_bytes(put_bytes(entries.bytes.grow(key.size), values), own);
  return true;
}

bool RowEncoder::end(Slice row_id) {
  if (at_ != slots_.size()) throw InvalidArgument("a row has fewer values than columns");
  if (plan_.keys.empty() != !row_id.empty()) throw InvalidArgument("a row has a key, or an id");
  if (count() >= MOST_ROWS) throw InvalidArgument("a block has too many rows");
  if (!write_key(row_id)) return false;
  RowBlock& block = *block_;
  const Slice key = key_.slice();
  const size_t rest = key.size + row_id.size;
  check_size(rest);
  uint8_t* to = put_binary_head(block.bytes_.grow(binary_head(rest) + rest), rest);
  put_bytes(put_bytes(to, key), row_id);
  RowBlock::Row row;
  row.start = ended_;
  row.size = static_cast<uint32_t>(block.bytes_.size() - ended_);
  row.rest = static_cast<uint32_t>(rest);
  for (size_t at = 0; at < plan_.entries.size(); ++at) {
    const Slice primary_key = block.bytes_.slice().after(block.bytes_.size() - rest);
    if (!write_entry(at, primary_key)) return false;
  }
  block.rows_.push_back(row);
  ended_ = block.bytes_.size();
  at_ = 0;
  return true;
}

void RowEncoder::last_body(ByteString& out) const {
  block_->bytes_.reserve(NEAR_BYTES);
  block_->body(count() - 1, out);
}

std::unique_ptr<RowBlock> RowEncoder::finish() {
  auto next = std::make_unique<RowBlock>();
  next->shape_ = shape_;
  next->entries_.resize(plan_.entries.size());
  begin();
  RowBlock& block = *block_;
  block.asked_.resize(plan_.entries.size());
  block.reclaimed_.assign(plan_.entries.size(), NO_ROW);
  for (const EntryPlan& entry : plan_.entries) {
    block.kinds_.push_back(entry.kind);
    block.prefixes_.push_back(entry.prefix);
  }
  for (size_t plan = 0; plan < plan_.entries.size(); ++plan) sort_asked(plan);
  sort_rows();
  block.bytes_.reserve(NEAR_BYTES);  // to be read, whatever is there
  if (ended_ > LARGE) {  // the next one is going to be as large
    next->bytes_.reserve(ended_ + ended_ / 8);
    next->rows_.reserve(block.count() + block.count() / 8);
  }
  ended_ = 0;
  std::swap(next, block_);
  return next;
}

/* The rows, and their bytes, in the order of their keys. */
void RowEncoder::sort_rows() {
  RowBlock& block = *block_;
  bool ascending = true;
  for (size_t row = 1; row < block.count() && ascending; ++row) {
    ascending = block.rest(row - 1) < block.rest(row);
  }
  if (ascending) return;
  struct Ranked {
    uint64_t head;
    uint32_t row;
  };
  Vector<Ranked> ranked(block.count());
  for (size_t row = 0; row < block.count(); ++row) {
    ranked[row] = {head_of(block.rest(row)), static_cast<uint32_t>(row)};
  }
  std::sort(ranked.begin(), ranked.end(), [&](const Ranked& left, const Ranked& right) {
    if (left.head != right.head) return left.head < right.head;
    const int order = block.rest(left.row).compare(block.rest(right.row));
    return order ? order < 0 : left.row < right.row;
  });
  Vector<uint32_t> order(block.count());
  Vector<RowBlock::Row> rows(block.count());
  ByteString sorted;
  uint8_t* to = sorted.grow(block.bytes_.size());
  for (size_t at = 0; at < ranked.size(); ++at) {
    const RowBlock::Row& row = block.rows_[ranked[at].row];
    order[at] = ranked[at].row;
    rows[at] = {static_cast<uint64_t>(to - sorted.data()), row.size, row.rest};
    to = put_bytes(to, {block.bytes_.data() + row.start, row.size});
    if (at && block.rest(ranked[at - 1].row) == block.rest(ranked[at].row)) {
      block.repeated_ = std::min(block.repeated_, size_t{ranked[at].row});
    }
  }
  block.rows_.swap(rows);
  block.order_.swap(order);
  std::swap(block.bytes_, sorted);
}

void RowEncoder::sort_asked(size_t plan) {
  RowBlock& block = *block_;
  const EntryKind kind = block.kinds_[plan];
  if (kind != EntryKind::Claim && kind != EntryKind::Parent) return;
  const EncodedKeys& entries = block.entries_[plan];
  Vector<uint32_t>& asked = block.asked_[plan];
  asked.reserve(entries.keys.size());
  for (uint32_t at = 0; at < entries.keys.size(); ++at) {
    if (entries.keys[at].whole) asked.push_back(at);
  }
  std::stable_sort(asked.begin(), asked.end(), [&](uint32_t left, uint32_t right) {
    return by_bytes(entries.values(left), entries.values(right));
  });
  const auto same = [&](uint32_t left, uint32_t right) {
    return entries.values(left) == entries.values(right);
  };
  if (kind == EntryKind::Parent) {
    asked.erase(std::unique(asked.begin(), asked.end(), same), asked.end());
    return;
  }
  for (size_t at = 1; at < asked.size(); ++at) {
    if (same(asked[at - 1], asked[at])) {
      block.reclaimed_[plan] = std::min(block.reclaimed_[plan], size_t{entries.keys[asked[at]].row});
    }
  }
}

}  // namespace murmur
