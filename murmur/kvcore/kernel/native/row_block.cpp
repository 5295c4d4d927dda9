#include "row_block.hpp"

#include <algorithm>
#include <numeric>

#include "crc32.hpp"
#include "msgpack.hpp"
#include "scan.hpp"
#include "varint.hpp"

namespace murmur {

namespace {

constexpr uint8_t INSERT = 4;                  // record.py
constexpr size_t LONGEST_KEY = 64 << 10;       // of a record's operations
constexpr size_t LONGEST_BODY = UINT32_MAX / 2;
constexpr size_t MOST_ROWS = size_t{1} << 31;
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

Slice RowBlock::key(size_t row) const {
  const Row& one = rows_[row];
  return {bytes_.data() + one.start + one.key_at, one.key_size};
}

Slice RowBlock::body(size_t row) const {
  const Row& one = rows_[row];
  return {bytes_.data() + one.start + one.body_at, one.body_size};
}

size_t RowBlock::lower_bound(Slice wanted) const {
  size_t low = 0, high = count();
  while (low < high) {
    const size_t middle = low + (high - low) / 2;
    if (key(middle) < wanted) low = middle + 1;
    else high = middle;
  }
  return low;
}

size_t RowBlock::find(Slice wanted) const {
  const size_t row = lower_bound(wanted);
  return row < count() && key(row) == wanted ? row : NO_ROW;
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

void RowBlock::operations(ByteString& out) const {
  if (order_.empty()) {
    out.append(bytes_.slice());
    return;
  }
  uint8_t* to = out.grow(bytes_.size());
  for (const Row& row : rows_) {
    to = put_bytes(to, {bytes_.data() + row.start, size_t{row.body_at} + row.body_size});
  }
}

void RowBlock::cell(size_t row, const RowAuthor& author, ByteString& out) const {
  const Slice own = body(row);
  *out.grow(1) = static_cast<uint8_t>(own[0] + 4);  // an array of so many more
  *out.grow(1) = 1;
  append_integer(out, author.stamp);
  uint8_t* replica = out.grow(2 + sizeof author.replica);
  replica[0] = 0xc4;
  replica[1] = sizeof author.replica;
  std::memcpy(replica + 2, author.replica, sizeof author.replica);
  append_integer(out, author.seq);
  out.append(own.after(1));
}

void RowBlock::writes(const RowAuthor& author, ByteString& cells, Vector<Operation>& out) const {
  // What stands in every cell, but for the first byte.
  ByteString head;
  head.append("\0\1", 2);
  append_integer(head, author.stamp);
  head.append("\xc4\x08", 2);
  head.append(author.replica, sizeof author.replica);
  append_integer(head, author.seq);

  size_t size = 0, writes = count();
  for (size_t row = 0; row < count(); ++row) size += head.size() + rows_[row].body_size - 1;
  for (size_t plan = 0; plan < plans(); ++plan) {
    if (kinds_[plan] != EntryKind::Parent) {
      size += 2 * entries_[plan].keys.size();
      writes += entries_[plan].keys.size();
    }
  }
  out.reserve(out.size() + writes);
  uint8_t* to = cells.grow(size);  // at once: the slices must not move
  for (size_t row = 0; row < count(); ++row) {
    const Slice own = body(row), under = key(row);
    uint8_t* const start = to;
    to = put_bytes(to, head.slice());
    start[0] = static_cast<uint8_t>(own[0] + 4);
    to = put_bytes(to, own.after(1));
    out.push_back({under, {start, static_cast<size_t>(to - start)}, crc32(under), false});
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
  return first_present(reads, sequence, count(), [&](size_t at) { return key(at); });
}

size_t RowBlock::present_claim(size_t plan, const Reads& reads, uint64_t sequence) const {
  return first_present(reads, sequence, asked_count(plan), [&](size_t at) { return asked(plan, at); });
}

size_t RowBlock::shared_key(const RowBlock& other) const {
  if (!count() || !other.count() || other.key(other.count() - 1) < key(0) ||
      key(count() - 1) < other.key(0)) {
    return NO_ROW;
  }
  for (size_t row = 0; row < count(); ++row) {
    if (other.find(key(row)) != NO_ROW) return row;
  }
  return NO_ROW;
}

size_t RowBlock::shared_claim(size_t plan, const RowBlock& other) const {
  for (size_t at = 0; at < asked_count(plan); ++at) {
    if (other.claim_of(plan, asked(plan, at)) != NO_ROW) return at;
  }
  return NO_ROW;
}

// RowEncoder ----------------------------------------------------------------

RowEncoder::RowEncoder(BlockPlan plan)
    : plan_(std::move(plan)), key_(plan_.keys), block_(std::make_unique<RowBlock>()) {
  const size_t fields = plan_.fields.size(), counters = plan_.counters.size();
  const size_t columns = fields + counters;
  bool sound = plan_.keys.size() == plan_.key_columns.size();
  for (const size_t column : plan_.key_columns) sound = sound && column < columns;
  ByteString head;
  *head.grow(1) = counters ? 0x92 : 0x91;
  append_map(head, fields);
  head_ = head.slice().string();
  for (size_t at = 0; at < columns; ++at) {
    ByteString lead;
    if (at == fields) append_map(lead, counters);
    append_integer(lead, at < fields ? plan_.fields[at] : plan_.counters[at - fields]);
    leads_.push_back(lead.slice().string());
  }
  for (const EntryPlan& entry : plan_.entries) {
    sound = sound && !entry.keys.empty() && entry.keys.size() == entry.columns.size();
    for (const size_t column : entry.columns) sound = sound && column < columns;
    writers_.emplace_back(entry.keys);
  }
  if (!sound) throw InvalidArgument("the plan of a block speaks of columns that it does not have");
  slots_.reserve(columns);
  begin();
}

void RowEncoder::begin() {
  body_.clear();
  body_.append(head_.data(), head_.size());
  slots_.clear();
}

void RowEncoder::drop() {
  begin();
  const size_t rows = count();
  RowBlock& block = *block_;
  const size_t bytes = rows ? block.rows_.back().start + block.rows_.back().body_at + block.rows_.back().body_size : 0;
  if (block.bytes_.size() > bytes) block.bytes_.truncate(bytes);
  for (EncodedKeys& entries : block.entries_) {
    while (!entries.keys.empty() && entries.keys.back().row >= rows) entries.keys.pop_back();
    const size_t end = entries.keys.empty() ? 0 : entries.keys.back().start + entries.keys.back().size;
    if (entries.bytes.size() > end) entries.bytes.truncate(end);
  }
}

uint8_t* RowEncoder::next(size_t size) {
  if (slots_.size() == leads_.size()) throw InvalidArgument("a row has more values than columns");
  const std::string& lead = leads_[slots_.size()];
  uint8_t* to = body_.grow(lead.size() + size);
  std::memcpy(to, lead.data(), lead.size());
  slots_.push_back(static_cast<uint32_t>(body_.size() - size));
  return to + lead.size();
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
  if (body_.size() + value.size > LONGEST_BODY) throw InvalidArgument("a row is longer than 2 GiB");
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
  if (body_.size() + value.size > LONGEST_BODY) throw InvalidArgument("a row is longer than 2 GiB");
  uint8_t* to;
  if (value.size < 0x100) {
    to = put_number(next(2 + value.size), 0xc4, static_cast<uint8_t>(value.size));
  } else if (value.size < 0x10000) {
    to = put_number(next(3 + value.size), 0xc5, static_cast<uint16_t>(value.size));
  } else {
    to = put_number(next(5 + value.size), 0xc6, static_cast<uint32_t>(value.size));
  }
  put_bytes(to, value);
}

bool RowEncoder::atom(Slice packed) {
  if (packed.empty() || msgpack::skip(packed.data, packed.data + packed.size) != packed.data + packed.size)
    return false;
  if (body_.size() + packed.size > LONGEST_BODY) throw InvalidArgument("a row is longer than 2 GiB");
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
  key_.begin(plan_.prefix);
  for (size_t at = 0; at < plan_.keys.size(); ++at) {
    if (!put(key_, plan_.keys[at], body_.data() + slots_[plan_.key_columns[at]])) return false;
  }
  const size_t size = key_.slice().size + row_id.size;
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
    const uint8_t* atom = body_.data() + slots_[plan.columns[each]];
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
  if (slots_.size() != leads_.size()) throw InvalidArgument("a row has fewer values than columns");
  if (plan_.keys.empty() != !row_id.empty()) throw InvalidArgument("a row has a key, or an id");
  RowBlock& block = *block_;
  if (block.entries_.size() != plan_.entries.size()) block.entries_.resize(plan_.entries.size());
  if (count() >= MOST_ROWS) throw InvalidArgument("a block has too many rows");
  if (!write_key(row_id)) return false;
  const Slice key = key_.slice(), body = body_.slice();
  RowBlock::Row row;
  row.start = block.bytes_.size();
  row.key_size = static_cast<uint32_t>(key.size + row_id.size);
  row.key_at = static_cast<uint32_t>(1 + varint_size(row.key_size));
  row.body_size = static_cast<uint32_t>(body.size);
  row.body_at = static_cast<uint32_t>(row.key_at + row.key_size + varint_size(body.size));
  uint8_t* to = block.bytes_.grow(size_t{row.body_at} + body.size);
  *to++ = INSERT;
  to = put_varint(to, row.key_size);
  const uint8_t* const written = to;
  to = put_bytes(put_bytes(to, key), row_id);
  put_bytes(put_varint(to, body.size), body);
  const Slice primary_key{written + plan_.prefix.size(), row.key_size - plan_.prefix.size()};
  for (size_t at = 0; at < plan_.entries.size(); ++at) {
    if (!write_entry(at, primary_key)) return false;
  }
  block.rows_.push_back(row);
  begin();
  return true;
}

Slice RowEncoder::last_body() const {
  const RowBlock::Row& row = block_->rows_.back();
  return {block_->bytes_.data() + row.start + row.body_at, row.body_size};
}

std::unique_ptr<RowBlock> RowEncoder::finish() {
  begin();
  RowBlock& block = *block_;
  block.entries_.resize(plan_.entries.size());
  block.asked_.resize(plan_.entries.size());
  block.reclaimed_.assign(plan_.entries.size(), NO_ROW);
  for (const EntryPlan& entry : plan_.entries) {
    block.kinds_.push_back(entry.kind);
    block.prefixes_.push_back(entry.prefix);
  }
  for (size_t plan = 0; plan < plan_.entries.size(); ++plan) sort_asked(plan);
  sort_rows();
  auto next = std::make_unique<RowBlock>();
  std::swap(next, block_);
  return next;
}

void RowEncoder::sort_rows() {
  RowBlock& block = *block_;
  bool ascending = true;
  for (size_t row = 1; row < block.count() && ascending; ++row) {
    ascending = block.key(row - 1) < block.key(row);
  }
  if (ascending) return;
  struct Ranked {
    uint64_t head;
    uint32_t row;
  };
  Vector<Ranked> ranked(block.count());
  const size_t shared = plan_.prefix.size();
  for (size_t row = 0; row < block.count(); ++row) {
    ranked[row] = {head_of(block.key(row).after(shared)), static_cast<uint32_t>(row)};
  }
  std::sort(ranked.begin(), ranked.end(), [&](const Ranked& left, const Ranked& right) {
    if (left.head != right.head) return left.head < right.head;
    const int order = block.key(left.row).compare(block.key(right.row));
    return order ? order < 0 : left.row < right.row;
  });
  Vector<uint32_t> order(block.count());
  Vector<RowBlock::Row> rows(block.count());
  for (size_t at = 0; at < ranked.size(); ++at) {
    order[at] = ranked[at].row;
    rows[at] = block.rows_[ranked[at].row];
    if (at && block.key(ranked[at - 1].row) == block.key(ranked[at].row)) {
      block.repeated_ = std::min(block.repeated_, size_t{ranked[at].row});
    }
  }
  block.rows_.swap(rows);
  block.order_.swap(order);
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
