#include "block.hpp"

namespace murmur {

namespace {

constexpr size_t HEADER_BYTES = 4 + 4 + 4 + 3;

template <class Length, class Offset>
uint64_t sum_lengths(const uint8_t* lengths, uint32_t count, uint64_t start, uint8_t* offsets) {
  // An offset may overflow on the way; the sum in 64 bits tells, and nobody has used one by then.
  uint64_t at = start;
  for (uint32_t i = 0; i < count; i++) {
    store(offsets + i * sizeof(Offset), static_cast<Offset>(at));
    at += load<Length>(lengths + i * sizeof(Length));
  }
  store(offsets + count * sizeof(Offset), static_cast<Offset>(at));
  return at;
}

template <class Offset>
uint64_t sum_lengths(const uint8_t* lengths, uint32_t count, uint8_t width, uint64_t start,
                     uint8_t* offsets) {
  if (width == 1) return sum_lengths<uint8_t, Offset>(lengths, count, start, offsets);
  if (width == 2) return sum_lengths<uint16_t, Offset>(lengths, count, start, offsets);
  return sum_lengths<uint32_t, Offset>(lengths, count, start, offsets);
}

/* Of one offset into the block, in memory. */
size_t offset_bytes(Slice block) { return block.size <= UINT16_MAX ? 2 : 4; }

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

/* Where the parts of a block begin, from its first bytes alone. */
struct Layout {
  uint32_t count, deleted, referenced, groups;
  const uint8_t* widths;
  uint64_t suffix_lengths, value_lengths, positions, prefixes;

  explicit Layout(Slice block) {
    if (block.size < HEADER_BYTES) throw Malformed("a block is shorter than its header");
    if (block.size > UINT32_MAX) throw Malformed("a block is longer than 4 GiB");
    count = load<uint32_t>(block.data);
    deleted = load<uint32_t>(block.data + 4);
    referenced = load<uint32_t>(block.data + 8);
    widths = block.data + 12;
    for (int i = 0; i < 3; i++)
      if (widths[i] != 1 && widths[i] != 2 && widths[i] != 4)
        throw Malformed("a block's lengths are not 1, 2 or 4 bytes wide");
    groups = count / GROUP + (count % GROUP != 0);
    suffix_lengths = HEADER_BYTES + uint64_t{groups} * widths[0];
    value_lengths = suffix_lengths + uint64_t{count} * widths[1];
    positions = value_lengths + uint64_t{count} * widths[2];
    prefixes = positions + (uint64_t{deleted} + referenced) * 4;
    if (prefixes > block.size) throw Malformed("a block is shorter than its count of entries says");
  }

  bool special() const { return deleted || referenced; }
  /* What all keys share is no longer than the prefix of the first group. */
  size_t most_shared(Slice block) const {
    if (!count) return 0;
    const uint8_t* first = block.data + HEADER_BYTES;
    const size_t length = widths[0] == 1   ? load<uint8_t>(first)
                          : widths[0] == 2 ? load<uint16_t>(first)
                                           : load<uint32_t>(first);
    if (length > block.size) throw Malformed("a prefix is longer than its block");
    return (length + 7) & ~size_t{7};
  }
};

}  // namespace

size_t BlockView::memory_for(Slice block, bool heads) {
  const Layout layout(block);
  const size_t offsets =
      offset_bytes(block) * (size_t{layout.groups} + 1 + 2 * (size_t{layout.count} + 1));
  return (heads ? 8 * size_t{layout.count} + layout.most_shared(block) : 0) + offsets +
         (layout.special() ? layout.count : 0);
}

BlockView BlockView::parse(Slice block, Vector<uint64_t>& memory, bool heads) {
  const size_t words = (memory_for(block, heads) + 7) / 8;
  if (memory.size() < words) {
    memory.clear();  // so that growing copies nothing
    memory.resize(words);
  }
  return parse(block, reinterpret_cast<uint8_t*>(memory.data()), heads);
}

BlockView BlockView::parse(Slice block, uint8_t* memory, bool heads) {
  const Layout layout(block);
  const uint32_t count = layout.count, groups = layout.groups;
  uint64_t* head = reinterpret_cast<uint64_t*>(memory);
  if (heads) memory += 8 * size_t{count} + layout.most_shared(block);
  const size_t width = offset_bytes(block);
  uint8_t* prefix_at = memory;
  uint8_t* suffix_at = prefix_at + width * (size_t{groups} + 1);
  uint8_t* value_at = suffix_at + width * (size_t{count} + 1);
  const auto sum = [&](uint64_t lengths, uint32_t of, uint8_t bytes, uint64_t start, uint8_t* to) {
    return width == 2 ? sum_lengths<uint16_t>(block.data + lengths, of, bytes, start, to)
                      : sum_lengths<uint32_t>(block.data + lengths, of, bytes, start, to);
  };
  const uint8_t* widths = layout.widths;
  const uint64_t suffixes = sum(HEADER_BYTES, groups, widths[0], layout.prefixes, prefix_at);
  const uint64_t values = sum(layout.suffix_lengths, count, widths[1], suffixes, suffix_at);
  const uint64_t end = sum(layout.value_lengths, count, widths[2], values, value_at);
  if (end != block.size) throw Malformed("a block has another length than its entries");

  BlockView view;
  view.data_ = block.data;
  view.count_ = count & (UINT32_MAX >> 1);  // all of it
  view.wide_ = width == 4;
  view.prefix_at_ = prefix_at;
  view.suffix_at_ = suffix_at;
  view.value_at_ = value_at;
  if (layout.special()) {
    uint8_t* kinds = value_at + width * (size_t{count} + 1);
    std::memset(kinds, 0, count);
    const uint8_t* at = block.data + layout.positions;
    for (uint64_t i = 0; i < uint64_t{layout.deleted} + layout.referenced; i++, at += 4) {
      const uint32_t position = load<uint32_t>(at);
      const Kind kind = i < layout.deleted ? Kind::Tombstone : Kind::Reference;
      const size_t size = kind == Kind::Tombstone ? 0 : REFERENCE_BYTES;
      if (position >= count || kinds[position])
        throw Malformed("a block marks an entry that it does not have, or one twice");
      if (view.value(position).size != size)
        throw Malformed("a tombstone has a value, or a reference is not 24 bytes long");
      kinds[position] = static_cast<uint8_t>(kind);
    }
    view.kinds_ = kinds;
  }
  if (heads && count) view.take_heads(head);
  return view;
}

void BlockView::take_heads(uint64_t* heads) {
  // The last key begins with the prefix of its group, and so with what all share: where they are in
  // order, all keys lie between the first and the last.
  const Slice first = prefix(0);
  const size_t from_prefix = shared_length(first, prefix(count_ - 1));
  shared_ = static_cast<uint32_t>(from_prefix);
  if (from_prefix == prefix(count_ - 1).size)
    shared_ += static_cast<uint32_t>(shared_length(first.after(from_prefix), suffix(count_ - 1)));
  const Slice shared = first.first(shared_);
  uint64_t previous = 0;
  for (uint32_t start = 0; start < count_; start += GROUP) {
    const Slice common = prefix(start);
    if (!common.starts_with(shared)) throw Malformed("the keys of a block are not in order");
    const Slice own = common.after(shared_);
    const uint64_t begin = head_of(own);
    const uint32_t stop = count_ - start < GROUP ? count_ : start + GROUP;
    for (uint32_t at = start; at < stop; at++) {
      const uint64_t head = own.size >= 8 ? begin : begin | head_of(suffix(at)) >> (8 * own.size);
      if (head < previous) throw Malformed("the keys of a block are not in order");
      heads[at] = previous = head;
    }
  }
  if (shared_) std::memcpy(heads + count_, shared.data, shared_);
  heads_ = heads;
}

uint32_t BlockView::search_heads(Slice key, bool& found) const {
  found = false;
  const Slice shared(reinterpret_cast<const uint8_t*>(heads_ + count_), shared_);
  if (!key.starts_with(shared)) return key < shared ? 0 : count_;
  const uint64_t head = head_of(key.after(shared_));
  const uint64_t* base = heads_;
  for (uint32_t left = count_; left > 1;) {  // to the last head that is less, or to the first
    const uint32_t half = left / 2;
    base += base[half - 1] < head ? half : 0;
    left -= half;
  }
  uint32_t at = static_cast<uint32_t>(base - heads_) + (*base < head);
  if (at == count_ || heads_[at] != head) return at;
  // It is probably the key itself: its value comes on its way while the keys are compared.
  const uint8_t* value = data_ + offset(value_at_, at);
  __builtin_prefetch(value);
  __builtin_prefetch(value + 64);
  uint32_t end = at + 1;
  while (end < count_ && heads_[end] == head) end++;
  while (at < end) {
    const uint32_t middle = at + (end - at) / 2;
    const int order = compare_tail(middle, key);
    if (order < 0) at = middle + 1;
    else end = middle;
    if (order == 0) found = true;
  }
  return at;
}

/* Compares what follows the shared bytes, where heads are equal. Heads that have all of it differ
 * in their padding only: then no byte of the block is touched. */
int BlockView::compare_tail(uint32_t at, Slice key) const {
  const size_t own = prefix(at).size + suffix(at).size - shared_, other = key.size - shared_;
  if (own <= sizeof(uint64_t) && other <= sizeof(uint64_t))
    return own < other ? -1 : own > other;
  return compare(at, key);
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

uint32_t BlockView::search_groups(Slice key) const {
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
