#include "block.hpp"

namespace murmur {

namespace {

constexpr size_t HEADER_BYTES = 4 + 4 + 4 + 3;

template <class T>
uint64_t sum_lengths(const uint8_t* lengths, uint32_t count, uint64_t start, uint32_t* bounds) {
  // 32 bits may overflow on the way; the sum in 64 tells, and nobody has used the bounds by then.
  uint64_t at = start;
  for (uint32_t i = 0; i < count; i++) {
    bounds[i] = static_cast<uint32_t>(at);
    at += load<T>(lengths + i * sizeof(T));
  }
  bounds[count] = static_cast<uint32_t>(at);
  return at;
}

/* Turns lengths into offsets; returns where the last of them ends. */
uint64_t bounds_of(const uint8_t* lengths, uint32_t count, uint8_t width, uint64_t start,
                   uint32_t* bounds) {
  if (width == 1) return sum_lengths<uint8_t>(lengths, count, start, bounds);
  if (width == 2) return sum_lengths<uint16_t>(lengths, count, start, bounds);
  return sum_lengths<uint32_t>(lengths, count, start, bounds);
}

uint8_t width_of(size_t longest) { return longest < 1 << 8 ? 1 : longest < 1 << 16 ? 2 : 4; }

void append_length(uint8_t*& to, size_t length, uint8_t width) {
  if (width == 1) *to = static_cast<uint8_t>(length);
  else if (width == 2) store(to, static_cast<uint16_t>(length));
  else store(to, static_cast<uint32_t>(length));
  to += width;
}

size_t shared_length(Slice left, Slice right) {
  const size_t most = left.size < right.size ? left.size : right.size;
  size_t at = 0;
  while (at < most && left[at] == right[at]) at++;
  return at;
}

}  // namespace

BlockView BlockView::parse(Slice block, Vector<uint32_t>& arrays) {
  if (block.size < HEADER_BYTES) throw Malformed("a block is shorter than its header");
  if (block.size > UINT32_MAX) throw Malformed("a block is longer than 4 GiB");
  const uint32_t count = load<uint32_t>(block.data);
  const uint32_t deleted = load<uint32_t>(block.data + 4);
  const uint32_t referenced = load<uint32_t>(block.data + 8);
  const uint8_t* widths = block.data + 12;
  for (int i = 0; i < 3; i++)
    if (widths[i] != 1 && widths[i] != 2 && widths[i] != 4)
      throw Malformed("a block's lengths are not 1, 2 or 4 bytes wide");
  const uint32_t groups = count / GROUP + (count % GROUP != 0);
  const uint64_t prefix_lengths = HEADER_BYTES;
  const uint64_t suffix_lengths = prefix_lengths + uint64_t{groups} * widths[0];
  const uint64_t value_lengths = suffix_lengths + uint64_t{count} * widths[1];
  const uint64_t positions = value_lengths + uint64_t{count} * widths[2];
  const uint64_t prefixes = positions + (uint64_t{deleted} + referenced) * 4;
  if (prefixes > block.size) throw Malformed("a block is shorter than its count of entries says");

  const bool special = deleted || referenced;
  const size_t offsets = size_t{groups} + 1 + 2 * (size_t{count} + 1);
  arrays.clear();
  arrays.resize(offsets + (special ? size_t{count} / 4 + 1 : 0));
  uint32_t* prefix_at = arrays.data();
  uint32_t* suffix_at = prefix_at + groups + 1;
  uint32_t* value_at = suffix_at + count + 1;
  const uint64_t suffixes =
      bounds_of(block.data + prefix_lengths, groups, widths[0], prefixes, prefix_at);
  const uint64_t values =
      bounds_of(block.data + suffix_lengths, count, widths[1], suffixes, suffix_at);
  const uint64_t end = bounds_of(block.data + value_lengths, count, widths[2], values, value_at);
  if (end != block.size) throw Malformed("a block has another length than its entries");

  BlockView view;
  view.data_ = block.data;
  view.count_ = count;
  view.prefix_at_ = prefix_at;
  view.suffix_at_ = suffix_at;
  view.value_at_ = value_at;
  if (special) {
    uint8_t* kinds = reinterpret_cast<uint8_t*>(arrays.data() + offsets);
    const uint8_t* at = block.data + positions;
    for (uint64_t i = 0; i < uint64_t{deleted} + referenced; i++, at += 4) {
      const uint32_t position = load<uint32_t>(at);
      const Kind kind = i < deleted ? Kind::Tombstone : Kind::Reference;
      const size_t size = kind == Kind::Tombstone ? 0 : REFERENCE_BYTES;
      if (position >= count || kinds[position])
        throw Malformed("a block marks an entry that it does not have, or one twice");
      if (view.value(position).size != size)
        throw Malformed("a tombstone has a value, or a reference is not 24 bytes long");
      kinds[position] = static_cast<uint8_t>(kind);
    }
    view.kinds_ = kinds;
  }
  return view;
}

int BlockView::compare(uint32_t at, Slice key) const {
  const Slice shared = prefix(at);
  if (shared.empty()) return suffix(at).compare(key);
  if (key.size < shared.size) {
    const int order = shared.first(key.size).compare(key);
    return order ? order : 1;
  }
  const int order = shared.compare(key.first(shared.size));
  return order ? order : suffix(at).compare(key.after(shared.size));
}

bool BlockView::equals(uint32_t at, Slice key) const {
  const Slice shared = prefix(at), own = suffix(at);
  return key.size == shared.size + own.size && key.starts_with(shared) &&
         key.after(shared.size) == own;
}

uint32_t BlockView::lower_bound(Slice key) const {
  uint32_t low = 0, high = count_ / GROUP + (count_ % GROUP != 0);
  while (low < high) {  // the first group that begins after the key
    const uint32_t middle = (low + high) / 2;
    if (compare(middle * GROUP, key) <= 0) low = middle + 1;
    else high = middle;
  }
  if (low == 0) return 0;
  const uint32_t start = (low - 1) * GROUP;
  uint32_t left = start, right = count_ - start < GROUP ? count_ : start + GROUP;
  const Slice shared = prefix(start);
  // It is not less than the group's first key: without the group's prefix, it follows all of it.
  if (!key.starts_with(shared)) return right;
  const Slice own = key.after(shared.size);
  while (left < right) {
    const uint32_t middle = (left + right) / 2;
    if (suffix(middle) < own) left = middle + 1;
    else right = middle;
  }
  return left;
}

void BlockBuilder::add(Slice key, Kind kind, Slice value) {
  const uint32_t at = count();
  if (keys_.size() + key.size + values_.size() + value.size > UINT32_MAX / 2)
    throw InvalidArgument("an entry is larger than 2 GiB");
  keys_.append(key);
  values_.append(value);
  key_ends_.push_back(static_cast<uint32_t>(keys_.size()));
  value_ends_.push_back(static_cast<uint32_t>(values_.size()));
  if (kind == Kind::Tombstone) deleted_.push_back(at);
  if (kind == Kind::Reference) referenced_.push_back(at);
}

Slice BlockBuilder::key(uint32_t at) const {
  const uint32_t start = at ? key_ends_[at - 1] : 0;
  return {keys_.data() + start, key_ends_[at] - start};
}

void BlockBuilder::finish(ByteString& out) {
  const uint32_t entries = count(), groups = entries / GROUP + (entries % GROUP != 0);
  shared_.clear();
  size_t prefix_longest = 0, suffix_longest = 0, value_longest = 0;
  size_t prefix_bytes = 0, suffix_bytes = 0;
  for (uint32_t start = 0; start < entries; start += GROUP) {
    const uint32_t stop = entries - start < GROUP ? entries : start + GROUP;
    const size_t shared = shared_length(key(start), key(stop - 1));
    shared_.push_back(static_cast<uint32_t>(shared));
    prefix_bytes += shared;
    if (shared > prefix_longest) prefix_longest = shared;
    for (uint32_t at = start; at < stop; at++) {
      const size_t own = key(at).size - shared;
      suffix_bytes += own;
      if (own > suffix_longest) suffix_longest = own;
    }
  }
  for (uint32_t at = 0, end = 0; at < entries; at++) {
    if (value_ends_[at] - end > value_longest) value_longest = value_ends_[at] - end;
    end = value_ends_[at];
  }
  const uint8_t widths[3] = {width_of(prefix_longest), width_of(suffix_longest),
                             width_of(value_longest)};
  const size_t lengths = size_t{groups} * widths[0] + size_t{entries} * (widths[1] + widths[2]);
  uint8_t* to = out.grow(HEADER_BYTES + lengths + 4 * (deleted_.size() + referenced_.size()) +
                         prefix_bytes + suffix_bytes + values_.size());
  store(to, entries);
  store(to + 4, static_cast<uint32_t>(deleted_.size()));
  store(to + 8, static_cast<uint32_t>(referenced_.size()));
  std::memcpy(to + 12, widths, 3);
  to += HEADER_BYTES;
  for (uint32_t shared : shared_) append_length(to, shared, widths[0]);
  for (uint32_t at = 0; at < entries; at++)
    append_length(to, key(at).size - shared_[at / GROUP], widths[1]);
  for (uint32_t at = 0, end = 0; at < entries; at++) {
    append_length(to, value_ends_[at] - end, widths[2]);
    end = value_ends_[at];
  }
  const auto append = [&to](const void* bytes, size_t count) {
    if (count) std::memcpy(to, bytes, count);
    to += count;
  };
  append(deleted_.data(), 4 * deleted_.size());
  append(referenced_.data(), 4 * referenced_.size());
  for (uint32_t group = 0; group < groups; group++) append(key(group * GROUP).data, shared_[group]);
  for (uint32_t at = 0; at < entries; at++) {
    const Slice own = key(at).after(shared_[at / GROUP]);
    append(own.data, own.size);
  }
  append(values_.data(), values_.size());

  keys_.clear();
  values_.clear();
  key_ends_.clear();
  value_ends_.clear();
  deleted_.clear();
  referenced_.clear();
}

}  // namespace murmur
