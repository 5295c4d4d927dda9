#include "memtable.hpp"

#include <algorithm>
#include <mutex>
#include <shared_mutex>

namespace murmur {
namespace {

constexpr size_t SLICE = 256;   // entries written before readers are let in: about 0.1 ms
constexpr size_t AHEAD = 8;     // entries whose memory is fetched before it is needed
constexpr size_t STEPS = 1024;  // records that a walk looks at under one lock, seen or not

using Exclusive = std::lock_guard<SharedLock>;
using Shared = std::shared_lock<SharedLock>;

size_t aligned(size_t size) { return (size + 7) & ~size_t{7}; }

Version* make_version(uint8_t* memory, uint64_t sequence, Slice value, bool deleted) {
  Version* version =
      new (memory) Version{sequence, nullptr, static_cast<uint32_t>(value.size), deleted};
  if (value.size) std::memcpy(version->bytes(), value.data, value.size);
  return version;
}

Record* make_record(uint8_t* memory, Slice key) {
  Record* record = new (memory) Record;
  record->newest = nullptr;
  record->size = static_cast<uint32_t>(key.size);
  if (key.size) std::memcpy(record->bytes(), key.data, key.size);
  return record;
}

// Fetch an entry of usual size: what it takes to read it is the wait for memory.
void prefetch(const void* entry) {
  const uint8_t* data = static_cast<const uint8_t*>(entry);
  __builtin_prefetch(data);
  __builtin_prefetch(data + 64);
  __builtin_prefetch(data + 128);
}

const Version* version_at(const Record* record, uint64_t sequence) {
  const Version* version = record->newest;
  while (version && version->sequence > sequence) version = version->older;
  return version;
}

}  // namespace

/* -- writing */

void Memtable::apply(uint64_t sequence, const Operation* operations, size_t count,
                     const KeyRange* ranges, size_t range_count) {
  std::unique_lock<SharedLock> lock(lock_);
  if (frozen_) throw InvalidArgument("the memtable is frozen");
  if (sequence == 0) throw InvalidArgument("sequences begin at 1");
  if (newest_ >= sequence) take_back(sequence);
  try {
    for (size_t at = 0; at < range_count; at++) delete_range(sequence, ranges[at]);
    for (size_t start = 0; start < count; start += SLICE) {
      if (start) {
        lock.unlock();  // readers in between see nothing of this sequence
        lock.lock();
      }
      const size_t stop = std::min(start + SLICE, count);
      for (size_t at = start + 1; at < std::min(start + AHEAD, stop); at++) {
        index_.prefetch(operations[at].hash);
      }
      for (size_t at = start; at < stop; at++) {
        if (at + AHEAD < stop) index_.prefetch(operations[at + AHEAD].hash);
        put(sequence, operations[at]);
      }
    }
  } catch (...) {
    take_back(sequence);
    throw;
  }
  newest_ = sequence;
  bytes_.store(arena_.bytes() + index_.bytes(), std::memory_order_relaxed);
}

void Memtable::freeze(uint64_t published) {
  Exclusive lock(lock_);
  if (newest_ > published) {
    take_back(published + 1);
    newest_ = published;
  }
  frozen_ = true;
}

void Memtable::put(uint64_t sequence, const Operation& operation) {
  const Slice key = operation.key, value = operation.value;
  Record* record = find(key, operation.hash);
  if (record) {
    uint8_t* memory = arena_.take(sizeof(Version) + value.size);
    push(record, make_version(memory, sequence, value, operation.deleted));
    return;
  }
  index_.reserve();
  const size_t offset = aligned(Record::HEADER + key.size);
  uint8_t* memory = arena_.take(offset + sizeof(Version) + value.size);
  const uint32_t reference = arena_.last_reference();
  keys_.reserve();
  // From here on nothing fails.
  record = make_record(memory, key);
  push(record, make_version(memory + offset, sequence, value, operation.deleted));
  keys_.insert(record);
  index_.insert(operation.hash, reference);
}

void Memtable::delete_range(uint64_t sequence, const KeyRange& range) {
  if (!(range.start < range.stop)) return;
  has_ranges_.store(true, std::memory_order_release);
  add_boundary(range.start);
  add_boundary(range.stop);
  for (BTree::Place place = ranges_.lower_bound(range.start);
       place.record()->key() < range.stop; place.forward()) {
    Record* record = place.record();
    if (record->newest && record->newest->sequence == sequence) continue;
    push(record, make_version(arena_.take(sizeof(Version)), sequence, Slice(), true));
  }
}

// Begin a new piece of the ranges at a key, covered by what covered it before.
void Memtable::add_boundary(Slice key) {
  const BTree::Place place = ranges_.lower_bound(key);
  if (place && place.record()->key() == key) return;
  uint8_t* memory = arena_.take(Record::HEADER + key.size);
  ranges_.reserve();
  Record* record = make_record(memory, key);
  const BTree::Place before = ranges_.before(key);
  if (before && before.record()->newest) {
    record->newest = before.record()->newest;
    size_++;
  }
  ranges_.insert(record);
}

void Memtable::push(Record* record, Version* version) {
  if (!record->newest) size_++;
  version->older = record->newest;
  record->newest = version;
}

void Memtable::take_back(uint64_t sequence) {
  drop_newer(keys_, sequence);
  drop_newer(ranges_, sequence);
}

// Records that lose all their versions stay, for nobody to see: they cannot be removed from a tree
// that somebody walks.
void Memtable::drop_newer(const BTree& records, uint64_t sequence) {
  for (BTree::Place place = records.first(); place; place.forward()) {
    Record* record = place.record();
    if (!record->newest || record->newest->sequence < sequence) continue;
    while (record->newest && record->newest->sequence >= sequence) {
      record->newest = record->newest->older;
    }
    if (!record->newest) size_--;
  }
}

/* -- reading */

Record* Memtable::find(Slice key, uint32_t hash) const {
  Record* record = index_.find(key, hash);
  return record || index_.complete() ? record : keys_.find(key);
}

Seen Memtable::get(Slice key, uint32_t hash, uint64_t sequence, Slice& value) const {
  Shared lock(lock_);
  return look(key, hash, sequence, value);
}

void Memtable::get_many(Lookup* lookups, size_t count, uint64_t sequence) const {
  Shared lock(lock_);
  // Three passes: the processor waits for the memory of many lookups at once.
  for (size_t at = 0; at < count; at++) {
    if (lookups[at].seen == Seen::Nothing) index_.prefetch(lookups[at].hash);
  }
  for (size_t at = 0; at < count; at++) {
    if (lookups[at].seen == Seen::Nothing) index_.prefetch_record(lookups[at].hash);
  }
  for (size_t at = 0; at < count; at++) {
    Lookup& one = lookups[at];
    if (one.seen == Seen::Nothing) one.seen = look(one.key, one.hash, sequence, one.value);
  }
}

Seen Memtable::look(Slice key, uint32_t hash, uint64_t sequence, Slice& value) const {
  const Record* record = find(key, hash);
  const Version* version = record ? version_at(record, sequence) : nullptr;
  const Record *from, *to;
  const uint64_t cover = has_ranges() ? cover_of(key, sequence, from, to) : 0;
  if (!version || version->sequence < cover) return cover ? Seen::Deleted : Seen::Nothing;
  if (version->deleted) return Seen::Deleted;
  value = version->value();
  return Seen::Value;
}

uint64_t Memtable::cover_of(Slice key, uint64_t sequence, const Record*& from,
                            const Record*& to) const {
  BTree::Place place = ranges_.lower_bound(key);
  if (place && place.record()->key() == key) {
    from = place.record();
    place.forward();
    to = place ? place.record() : nullptr;
  } else {
    to = place ? place.record() : nullptr;
    const BTree::Place before = ranges_.before(key);
    from = before ? before.record() : nullptr;
  }
  const Version* cover = from ? version_at(from, sequence) : nullptr;
  return cover ? cover->sequence : 0;
}

bool Memtable::covers(Slice key, uint64_t sequence, Slice& from, Slice& to, bool& bounded) const {
  Shared lock(lock_);
  const Record *first, *next;
  const uint64_t cover = cover_of(key, sequence, first, next);
  from = first ? first->key() : Slice();
  bounded = next != nullptr;
  if (bounded) to = next->key();
  return cover != 0;
}

RangeTombstones Memtable::ranges_at(uint64_t sequence) const {
  RangeTombstones ranges;
  if (!has_ranges()) return ranges;
  Shared lock(lock_);
  bool open = false;  // whether the last range still lacks its stop
  for (BTree::Place place = ranges_.first(); place; place.forward()) {
    const Record* record = place.record();
    const bool covered = version_at(record, sequence) != nullptr;
    if (covered && !open) ranges.push_back({record->key().string(), std::string()});
    if (!covered && open) ranges.back().stop = record->key().string();
    open = covered;
  }
  return ranges;
}

uint64_t Memtable::newest() const {
  Shared lock(lock_);
  return newest_;
}

size_t Memtable::size() const {
  Shared lock(lock_);
  return size_;
}

std::unique_ptr<EntryIterator> Memtable::entries() const {
  return std::make_unique<MemtableIterator>(*this, newest());
}

/* -- walking */

const Version* MemtableIterator::seen(const Record* record) {
  const Version* version = version_at(record, sequence_);
  if (!version || !memtable_.has_ranges()) return version;
  const Slice key = record->key();
  if (!cover_known_ || (cover_from_ && key < cover_from_->key()) ||
      (cover_to_ && cover_to_->key() <= key)) {
    cover_ = memtable_.cover_of(key, sequence_, cover_from_, cover_to_);
    cover_known_ = true;
  }
  return version->sequence < cover_ ? nullptr : version;
}

// Take the next piece from here on, to be called under the lock; false: ask again.
bool MemtableIterator::fill_forward(BTree::Place place) {
  size_t steps = 0;
  low_ = place ? place.record() : nullptr;
  for (unsigned at = 0; place && at < AHEAD && place.at + at < place.leaf->count; at++) {
    prefetch(place.leaf->records[place.at + at]);
  }
  while (place && stop_ < limit_ && steps++ < STEPS) {
    if (const Record* ahead = place.ahead(AHEAD)) prefetch(ahead);
    high_ = place.record();
    if (const Version* version = seen(high_)) piece_[stop_++] = {high_, version};
    place.forward();
  }
  edge_ = place;
  edge_count_ = memtable_.keys_.count();
  edge_forward_ = true;
  return stop_ > start_ || !place;
}

bool MemtableIterator::fill_backward(BTree::Place place) {
  size_t steps = 0;
  high_ = place ? place.record() : nullptr;
  while (place && stop_ - start_ < limit_ && steps++ < STEPS) {
    if (const Record* behind = place.behind(AHEAD)) prefetch(behind);
    low_ = place.record();
    if (const Version* version = seen(low_)) piece_[--start_] = {low_, version};
    place.backward();
  }
  edge_ = place;
  edge_count_ = memtable_.keys_.count();
  edge_forward_ = false;
  return stop_ > start_ || !place;
}

void MemtableIterator::begin() {
  valid_ = false;
  limit_ = SHORTEST;
  if (piece_.size() < limit_) piece_.resize(limit_);
}

void MemtableIterator::seek(Slice key) {
  begin();
  start_ = stop_ = at_ = 0;
  bool done;
  {
    Shared lock(memtable_.lock_);
    done = fill_forward(memtable_.keys_.lower_bound(key));
  }
  if (!done) continue_forward();
  else if (at_ < stop_) show();
}

void MemtableIterator::seek_first() { seek(Slice()); }

void MemtableIterator::seek_before(Slice key) {
  begin();
  start_ = stop_ = at_ = limit_;
  bool done;
  {
    Shared lock(memtable_.lock_);
    done = fill_backward(memtable_.keys_.before(key));
  }
  if (!done) continue_backward();
  else if (start_ < stop_) at_ = stop_ - 1, show();
}

void MemtableIterator::seek_last() {
  begin();
  start_ = stop_ = at_ = limit_;
  bool done;
  {
    Shared lock(memtable_.lock_);
    done = fill_backward(memtable_.keys_.last());
  }
  if (!done) continue_backward();
  else if (start_ < stop_) at_ = stop_ - 1, show();
}

void MemtableIterator::continue_forward() {
  valid_ = false;
  limit_ = std::min(2 * limit_, LONGEST);
  if (piece_.size() < limit_) piece_.resize(limit_);
  start_ = stop_ = at_ = 0;
  for (bool done = false; !done;) {
    Shared lock(memtable_.lock_);
    const BTree& keys = memtable_.keys_;
    BTree::Place place = edge_;
    if (!edge_forward_ || edge_count_ != keys.count()) {
      place = keys.lower_bound(high_->key());
      place.forward();
    }
    done = fill_forward(place);
  }
  if (at_ < stop_) show();
}

void MemtableIterator::continue_backward() {
  valid_ = false;
  limit_ = std::min(2 * limit_, LONGEST);
  if (piece_.size() < limit_) piece_.resize(limit_);
  start_ = stop_ = at_ = limit_;
  for (bool done = false; !done;) {
    Shared lock(memtable_.lock_);
    BTree::Place place = edge_;
    if (edge_forward_ || edge_count_ != memtable_.keys_.count()) {
      place = memtable_.keys_.before(low_->key());
    }
    done = fill_backward(place);
  }
  if (start_ < stop_) at_ = stop_ - 1, show();
}

}  // namespace murmur
