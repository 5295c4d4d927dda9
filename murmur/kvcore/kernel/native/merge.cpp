#include "merge.hpp"

#include <algorithm>
#include <cassert>

#include "reader.hpp"

namespace murmur {

namespace {

/* Tables one after the other. */
class TablesReader final : public EntryIterator {
 public:
  explicit TablesReader(const std::vector<std::shared_ptr<Table>>& tables) : tables_(tables) {}

  void seek_first() override { open(0); }
  void next() override {
    reader_->next();
    if (reader_->valid()) show();
    else open(at_ + 1);
  }
  void seek(Slice key) override {
    while (Slice(tables_[at_]->info().last) < key && at_ + 1 < tables_.size()) open(at_ + 1);
    if (valid_) reader_->seek(key);
    if (valid_ && reader_->valid()) show();
    else open(at_ + 1);
  }
  void seek_last() override { assert(!"a merge goes forward"); }
  void seek_before(Slice) override { assert(!"a merge goes forward"); }
  void prev() override { assert(!"a merge goes forward"); }

 private:
  void open(size_t at) {
    for (valid_ = false; at < tables_.size(); at++) {
      reader_ = std::make_unique<TableReader>(*tables_[at]);
      reader_->seek_first();
      at_ = at;
      if (reader_->valid()) return show();
    }
  }
  void show() {
    key_ = reader_->key();
    value_ = reader_->value();
    kind_ = reader_->kind();
    valid_ = true;
  }

  const std::vector<std::shared_ptr<Table>>& tables_;
  size_t at_ = 0;
  std::unique_ptr<TableReader> reader_;
};

/* A source, and what newer sources hide of it. */
struct Head {
  std::unique_ptr<EntryIterator> entries;
  size_t age;  // 0 is the newest
  RangeTombstones hiding;
  size_t hiding_at = 0;

  bool precedes(const Head& other) const {
    const int order = entries->key().compare(other.entries->key());
    return order < 0 || (order == 0 && age < other.age);
  }
  /* The range that hides the entry at hand, or nullptr; keys come in order. */
  const RangeTombstone* hidden() {
    const Slice key = entries->key();
    while (hiding_at < hiding.size() && Slice(hiding[hiding_at].stop) <= key) hiding_at++;
    if (hiding_at == hiding.size() || key < Slice(hiding[hiding_at].start)) return nullptr;
    return &hiding[hiding_at];
  }
};

/* The heads as a heap: the next entry's first. */
class Heap {
 public:
  void push(Head* head) {
    heads_.push_back(head);
    for (size_t at = heads_.size() - 1; at > 0;) {
      const size_t parent = (at - 1) / 2;
      if (!heads_[at]->precedes(*heads_[parent])) break;
      std::swap(heads_[at], heads_[parent]);
      at = parent;
    }
  }
  bool empty() const { return heads_.empty(); }
  Head& top() { return *heads_.front(); }
  /* Moves the first head on: to the next entry, or, forward, to the first from a key on. */
  void advance(const Slice* to) {
    EntryIterator& entries = *heads_.front()->entries;
    if (to) entries.seek(*to);
    else entries.next();
    if (!entries.valid()) {
      heads_.front() = heads_.back();
      heads_.pop_back();
    }
    const size_t count = heads_.size();
    for (size_t at = 0;;) {
      size_t child = 2 * at + 1;
      if (child >= count) break;
      if (child + 1 < count && heads_[child + 1]->precedes(*heads_[child])) child++;
      if (!heads_[child]->precedes(*heads_[at])) break;
      std::swap(heads_[at], heads_[child]);
      at = child;
    }
  }

 private:
  std::vector<Head*> heads_;
};

/* The tables that come out, one at a time. */
class Outlet {
 public:
  Outlet(const MergeOptions& options, MergeOutput& output, RangeTombstones ranges)
      : options_(options), output_(output), ranges_(std::move(ranges)) {}

  void add(Slice key, Kind kind, Slice value) {
    if (writer_ && writer_->size() >= options_.table.table_bytes) finish_table(&key);
    if (!writer_) create();
    if (kind == Kind::Put && options_.table.separate_bytes &&
        value.size > options_.table.separate_bytes) {
      refer(key, values().add(value));
    } else if (kind == Kind::Reference && !options_.relocate.empty()) {
      const Reference reference = Reference::decode(value);
      if (options_.relocate.count(reference.file)) refer(key, relocate(reference));
      else writer_->add(key, kind, value);
    } else {
      writer_->add(key, kind, value);
    }
    const uint64_t written = finished_ + writer_->size() + (values_ ? values_->size() : 0);
    if (written - paused_ >= options_.pause_bytes) {
      const uint64_t since = written - paused_;
      paused_ = written;
      output_.pause(since);
    }
  }

  Merged finish() {
    if (!writer_ && range_at_ < ranges_.size()) create();
    if (writer_) finish_table(nullptr);
    if (values_) {
      values_->finish();
      merged_.value_files.emplace_back(values_->number(), values_->size());
    }
    return std::move(merged_);
  }

 private:
  void create() {
    uint64_t number = 0;
    std::unique_ptr<AppendFile> file = output_.create(number);
    writer_ = std::make_unique<TableWriter>(std::move(file), number, options_.table);
  }

  /* Ends the table at hand; `next` is the first key of the next one, if there will be one. */
  void finish_table(const Slice* next) {
    for (; range_at_ < ranges_.size(); range_at_++) {
      RangeTombstone& range = ranges_[range_at_];
      if (next && *next <= Slice(range.start)) break;
      if (next && *next < Slice(range.stop)) {
        // The rest of it is the next table's.
        writer_->add_range(range.start, *next);
        range.start = next->string();
        break;
      }
      writer_->add_range(range.start, range.stop);
    }
    merged_.tables.push_back(writer_->finish(options_.max_sequence));
    finished_ += merged_.tables.back().size;
    writer_.reset();
  }

  ValueWriter& values() {
    if (!values_) {
      uint64_t number = 0;
      std::unique_ptr<AppendFile> file = output_.create_values(number);
      values_ = std::make_unique<ValueWriter>(std::move(file), number);
    }
    return *values_;
  }

  void refer(Slice key, const Reference& reference) {
    uint8_t encoded[REFERENCE_BYTES];
    reference.encode(encoded);
    writer_->add(key, Kind::Reference, {encoded, REFERENCE_BYTES});
  }

  Reference relocate(const Reference& reference) {
    ValueFile& source = *options_.values.at(reference.file);
    source.verify_bounds(reference);
    relocated_.clear();
    source.read(reference, relocated_.grow(reference.length));
    return values().add(relocated_.slice());
  }

  const MergeOptions& options_;
  MergeOutput& output_;
  RangeTombstones ranges_;  // from range_at_ on: not written yet
  size_t range_at_ = 0;
  std::unique_ptr<TableWriter> writer_;
  std::unique_ptr<ValueWriter> values_;
  ByteString relocated_;
  Merged merged_;
  uint64_t finished_ = 0;
  uint64_t paused_ = 0;
};

}  // namespace

std::unique_ptr<EntryIterator> TableSource::entries() const {
  return std::make_unique<TablesReader>(tables_);
}

RangeTombstones TableSource::ranges() const {
  RangeTombstones all;
  for (const auto& table : tables_) {
    if (!table->info().ranges) continue;
    const RangeTombstones& ranges = table->ranges();
    all.insert(all.end(), ranges.begin(), ranges.end());
  }
  return all;
}

Merged write_tables(const std::vector<const EntrySource*>& sources, const MergeOptions& options,
                    MergeOutput& output) {
  const turns::Turn apart(false);
  for (const uint64_t number : options.relocate)
    if (!options.values.count(number))
      throw InvalidArgument("value file " + std::to_string(number) + " is not at hand");
  std::vector<Head> heads(sources.size());
  Heap heap;
  RangeTombstones newer;  // of all sources before this one
  for (size_t age = 0; age < sources.size(); age++) {
    Head& head = heads[age];
    head.entries = sources[age]->entries();
    head.age = age;
    head.hiding = newer;
    const RangeTombstones own = sources[age]->ranges();
    newer.insert(newer.end(), own.begin(), own.end());
    newer = join_ranges(std::move(newer));
    head.entries->seek_first();
    if (head.entries->valid()) heap.push(&head);
  }
  Outlet outlet(options, output, options.drop_tombstones ? RangeTombstones() : std::move(newer));
  ByteString previous;
  bool any = false;
  while (!heap.empty()) {
    Head& head = heap.top();
    const Slice key = head.entries->key();
    if (const RangeTombstone* range = head.hidden()) {
      // Older entries of this key are hidden too. What the range covers need not be read.
      const Slice stop = range->stop;
      heap.advance(&stop);
      continue;
    }
    if (!any || key != previous.slice()) {
      previous.assign(key);
      any = true;
      const Kind kind = head.entries->kind();
      if (!(options.drop_tombstones && kind == Kind::Tombstone))
        outlet.add(key, kind, head.entries->value());
    }
    heap.advance(nullptr);
  }
  return outlet.finish();
}

}  // namespace murmur
