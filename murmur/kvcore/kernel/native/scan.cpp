#include "scan.hpp"

#include <algorithm>
#include <optional>

namespace murmur {
namespace {

constexpr size_t MOST_BYTES = size_t{1} << 30;  // of rows before the last one: offsets are 32 bits
constexpr unsigned PATIENCE = 16;  // entries of a range tombstone are walked, then leapt over

}  // namespace

/* -- rows */

void Rows::clear() noexcept {
  keys_.clear();
  values_.clear();
  key_ends_.clear();
  value_ends_.clear();
}

void Rows::add(Slice key, Slice value) {
  if (value.size) std::memcpy(add(key, value.size), value.data, value.size);
  else add(key, size_t{0});
}

uint8_t* Rows::add(Slice key, size_t value_size) {
  if (value_ends_.empty()) {
    key_ends_.assign(1, 0);
    value_ends_.assign(1, 0);
  }
  uint8_t* value = values_.grow(value_size);
  keys_.append(key);
  key_ends_.push_back(static_cast<uint32_t>(keys_.size()));
  value_ends_.push_back(static_cast<uint32_t>(values_.size()));  // last: it counts
  return value;
}

void Rows::truncate(size_t wanted) {
  if (wanted >= count()) return;
  key_ends_.resize(wanted + 1);
  value_ends_.resize(wanted + 1);
  keys_.truncate(key_ends_.back());
  values_.truncate(value_ends_.back());
}

/* -- sources */

/* A memtable, a sorted run, or the tables [low, high) of a run. */
class Scan::Source {
 public:
  Source(unsigned age, const Memtable& memtable, uint64_t sequence)
      : age(age), iterator_(&memtable_.emplace(memtable, sequence)) {}
  Source(unsigned age, const SortedRun& run) : age(age), sorted_(run.entries()), iterator_(sorted_.get()) {}
  Source(unsigned age, const Run& run, size_t low, size_t high)
      : age(age), run_(&run), low_(low), high_(high) {}

  const unsigned age;   // 0 is the newest
  unsigned hidden = 0;  // entries in a row that a range tombstone hid

  bool valid() const { return iterator_ && iterator_->valid(); }
  Slice key() const { return iterator_->key(); }
  Slice value() const { return iterator_->value(); }
  Kind kind() const { return iterator_->kind(); }
  const std::string& path() const { return (*run_)[at_].path(); }

  void seek(Slice key) {
    if (run_) {
      const size_t upto = run_->upto(key);
      open(std::max(low_, upto ? upto - 1 : 0));
    }
    if (!iterator_) return;
    iterator_->seek(key);
    skip_forward();
  }

  void seek_before(Slice key) {
    if (run_) {
      const size_t before = std::min(run_->upto(key, false), high_);
      open(before > low_ ? before - 1 : high_);
    }
    if (!iterator_) return;
    iterator_->seek_before(key);
    skip_backward();
  }

  void seek_last() {
    if (run_) open(high_ - 1);
    iterator_->seek_last();
    skip_backward();
  }

  /* Corrupt if an entry of the block at hand may be other than what was written. */
  void verify() const {
    if (table_) table_->verify();
  }
  bool whole() const { return !table_ || table_->whole(); }

  void next() {
    iterator_->next();
    if (run_) skip_forward();
  }

  void prev() {
    iterator_->prev();
    if (run_) skip_backward();
  }

 private:
  void open(size_t at) {
    verify();
    at_ = at;
    iterator_ = at < high_ ? &table_.emplace((*run_)[at]) : nullptr;
  }

  void skip_forward() {
    while (run_ && !iterator_->valid() && at_ + 1 < high_) {
      open(at_ + 1);
      iterator_->seek_first();
    }
  }

  void skip_backward() {
    while (run_ && !iterator_->valid() && at_ > low_) {
      open(at_ - 1);
      iterator_->seek_last();
    }
  }

  std::optional<MemtableIterator> memtable_;
  std::unique_ptr<EntryIterator> sorted_;
  std::optional<TableIterator> table_;
  EntryIterator* iterator_ = nullptr;  // one of these; none: there is no table to read
  const Run* run_ = nullptr;
  size_t low_ = 0, high_ = 0, at_ = 0;
};

/* The range tombstones of one source: the answer for the key asked last holds for its neighbours. */
class Scan::Cover {
 public:
  Cover(unsigned age, const Memtable& memtable, uint64_t sequence)
      : age(age), memtable_(&memtable), sequence_(sequence) {}
  Cover(unsigned age, const Run& run) : age(age), run_(&run) {}

  const unsigned age;

  bool hides(Slice key) {
    if (known_ && from_ <= key && (!bounded_ || key < to_)) return answer_;
    from_ = Slice();
    answer_ = memtable_ ? memtable_->covers(key, sequence_, from_, to_, bounded_) : find(key);
    known_ = true;
    return answer_;
  }

  /* From where to where the last answer holds; what is covered is bounded. */
  Slice from() const { return from_; }
  Slice to() const { return to_; }

 private:
  bool find(Slice key) {
    known_ = false;  // until the ranges have been read
    const size_t upto = run_->upto(key);
    bounded_ = upto < run_->size();
    if (bounded_) to_ = run_->first(upto);
    if (upto == 0) return false;
    from_ = run_->first(upto - 1);
    Table& table = (*run_)[upto - 1];
    if (table.info().ranges == 0) return false;
    const RangeTombstones& ranges = table.ranges();
    const auto next = std::upper_bound(
        ranges.begin(), ranges.end(), key,
        [](Slice left, const RangeTombstone& right) { return left < Slice(right.start); });
    if (next != ranges.end()) {
      bounded_ = true;
      to_ = next->start;
    }
    if (next == ranges.begin()) return false;
    const RangeTombstone& last = *(next - 1);
    if (Slice(last.stop) <= key) {
      from_ = last.stop;
      return false;
    }
    bounded_ = true;
    from_ = last.start;
    to_ = last.stop;
    return true;
  }

  const Memtable* memtable_ = nullptr;
  const Run* run_ = nullptr;
  uint64_t sequence_ = 0;
  bool known_ = false, answer_ = false, bounded_ = false;
  Slice from_, to_;
};

/* -- the walk */

Scan::Scan(const Reads& reads, Slice start, Slice stop, bool bounded, uint64_t sequence,
           bool reverse)
    : reads_(reads),
      start_(start.string()),
      stop_(stop.string()),
      bounded_(bounded),
      reverse_(reverse),
      sequence_(sequence) {}

Scan::~Scan() = default;

void Scan::open() {
  unsigned age = 0;
  sources_.reserve(reads_.layers_.size() + reads_.runs_.size());
  heap_.reserve(sources_.capacity());
  for (const auto& [memtable, run] : reads_.layers_) {
    if (run) {
      add_source(std::make_unique<Source>(age++, *run));
      continue;
    }
    if (memtable->has_ranges()) covers_.push_back(std::make_unique<Cover>(age, *memtable, sequence_));
    add_source(std::make_unique<Source>(age++, *memtable, sequence_));
  }
  for (const Run& run : reads_.runs_) {
    const size_t upto = run.upto(start_);
    // The table that begins before the start may end before it, too.
    const size_t low = upto && Slice(start_) <= run.last(upto - 1) ? upto - 1 : upto;
    const size_t high = bounded_ ? run.upto(stop_, false) : run.size();
    if (low >= high) continue;
    if (run.has_ranges()) covers_.push_back(std::make_unique<Cover>(age, run));
    add_source(std::make_unique<Source>(age++, run, low, high));
  }
}

void Scan::add_source(std::unique_ptr<Source> source) {
  if (!reverse_) source->seek(start_);
  else if (bounded_) source->seek_before(stop_);
  else source->seek_last();
  if (source->valid()) {
    heap_.push_back(source.get());
    for (size_t at = heap_.size() - 1; at && before(heap_[at], heap_[(at - 1) / 2]);) {
      std::swap(heap_[at], heap_[(at - 1) / 2]);
      at = (at - 1) / 2;
    }
  }
  sources_.push_back(std::move(source));
}

bool Scan::before(const Source* left, const Source* right) const {
  const int order = left->key().compare(right->key());
  if (order == 0) return left->age < right->age;
  return reverse_ ? order > 0 : order < 0;
}

void Scan::sift(size_t at) {
  const size_t count = heap_.size();
  for (size_t child; (child = 2 * at + 1) < count; at = child) {
    if (child + 1 < count && before(heap_[child + 1], heap_[child])) child++;
    if (!before(heap_[child], heap_[at])) return;
    std::swap(heap_[child], heap_[at]);
  }
}

// The source at the top has moved: it finds its new place, or goes.
void Scan::top_moved() {
  if (!heap_[0]->valid()) {
    heap_[0] = heap_.back();
    heap_.pop_back();
  }
  sift(0);
}

bool Scan::within(Slice key) const {
  return reverse_ ? Slice(start_) <= key : !bounded_ || key < Slice(stop_);
}

bool Scan::fill(Rows& rows, size_t most, size_t bytes) {
  const size_t before = rows.count();
  try {
    const bool more = walk(rows, most, std::min(bytes, MOST_BYTES));
    for (const std::unique_ptr<Source>& source : sources_) source->verify();
    return more;
  } catch (...) {
    // Where a mapped file was cut, what was read since the last look at it may be zeros.
    for (const std::unique_ptr<Source>& source : sources_)
      if (!source->whole()) rows.truncate(before);
    throw;
  }
}

bool Scan::walk(Rows& rows, size_t most, size_t bytes) {
  if (!opened_) {
    opened_ = true;
    if (!bounded_ || start_ < stop_) open();
  }
  while (!heap_.empty()) {
    if (rows.count() >= most || rows.bytes() >= bytes) return true;
    Source& top = *heap_[0];
    const Slice key = top.key();
    if (first_ || key != last_.slice()) {
      if (!within(key)) break;
      last_.assign(key);
      first_ = false;
      if (!covers_.empty() && hidden(top)) continue;
      take(top, rows);
    }
    step(top);
    if (covers_.empty()) take_alone(top, rows, most, bytes);
    top_moved();
  }
  heap_.clear();
  return false;
}

// The entries of the source at the top that come before those of all others: nobody is asked.
void Scan::take_alone(Source& source, Rows& rows, size_t most, size_t bytes) {
  const Source* rival = heap_.size() > 1 ? heap_[1] : nullptr;
  if (heap_.size() > 2 && before(heap_[2], rival)) rival = heap_[2];
  while (source.valid() && rows.count() < most && rows.bytes() < bytes) {
    const Slice key = source.key();
    if (!within(key)) return;
    if (rival && (reverse_ ? key <= rival->key() : key >= rival->key())) return;
    take(source, rows);
    step(source);
  }
}

void Scan::step(Source& source) const {
  if (reverse_) source.prev();
  else source.next();
}

// Whether a range tombstone of a newer source hides the entry at hand: then it has been passed.
bool Scan::hidden(Source& source) {
  for (const std::unique_ptr<Cover>& cover : covers_) {
    if (cover->age >= source.age) break;
    if (!cover->hides(source.key())) continue;
    if (++source.hidden % PATIENCE == 0) {
      if (reverse_) source.seek_before(cover->from());
      else source.seek(cover->to());
    } else {
      step(source);
    }
    top_moved();
    return true;
  }
  source.hidden = 0;
  return false;
}

void Scan::take(const Source& source, Rows& rows) {
  switch (source.kind()) {
    case Kind::Tombstone:
      return;
    case Kind::Put:
      rows.add(source.key(), source.value());
      return;
    case Kind::Reference:
      break;
  }
  Reference reference;
  try {
    reference = Reference::decode(source.value());
  } catch (const Malformed& error) {
    throw Corrupt(source.path(), 0, error.reason);
  }
  ValueFile& file = reads_.values_of(reference);
  uint8_t* value = rows.add(source.key(), reference.length);
  try {
    file.read(reference, value);
  } catch (...) {
    rows.remove_last();
    throw;
  }
}

}  // namespace murmur
