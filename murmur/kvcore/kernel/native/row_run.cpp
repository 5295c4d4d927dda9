#include "row_run.hpp"

#include <algorithm>

namespace murmur {

/* The rows of all blocks in one order, or against it. */
class RowIterator final : public EntryIterator {
 public:
  explicit RowIterator(const RowRun& run) : run_(run) {
    own_key_.assign(run.parts_.front().block->prefix());
    prefix_ = own_key_.size();
  }

  void seek_first() override {
    go(true, [](const RowBlock&) { return size_t{0}; });
  }
  void seek(Slice key) override {
    go(true, [key](const RowBlock& block) { return block.lower_bound(key); });
  }
  void seek_last() override {
    go(false, [](const RowBlock& block) { return block.count(); });
  }
  void seek_before(Slice key) override {
    go(false, [key](const RowBlock& block) { return block.lower_bound(key); });
  }

  void next() override {
    if (!forward_) {
      const std::string here = key_.string();
      seek(here);
    }
    Cursor& first = cursors_.front();
    if (++first.row == first.block().count()) cursors_.erase(cursors_.begin());
    else settle();
    show();
  }

  void prev() override {
    if (forward_) {
      const std::string here = key_.string();
      return seek_before(here);
    }
    Cursor& first = cursors_.front();
    if (first.row-- == 0) cursors_.erase(cursors_.begin());
    else settle();
    show();
  }

 private:
  struct Cursor {
    const RowRun::Part* part;
    size_t row;

    const RowBlock& block() const { return *part->block; }
    Slice rest() const { return block().rest(row); }
  };

  /* Stands in each block at the row of this number, or backward at the one before it. */
  template <class RowOf>
  void go(bool forward, RowOf row_of) {
    forward_ = forward;
    cursors_.clear();
    for (const RowRun::Part& part : run_.parts_) {
      const size_t row = row_of(*part.block);
      if (forward ? row < part.block->count() : row > 0) cursors_.push_back({&part, row - !forward});
    }
    std::sort(cursors_.begin(), cursors_.end(),
              [this](const Cursor& left, const Cursor& right) { return before(left, right); });
    show();
  }

  bool before(const Cursor& left, const Cursor& right) const {
    return forward_ ? left.rest() < right.rest() : right.rest() < left.rest();
  }

  /* The first cursor has moved: it finds its place again. */
  void settle() {
    if (cursors_.size() < 2 || before(cursors_[0], cursors_[1])) return;
    const Cursor moved = cursors_[0];
    size_t at = 0;
    for (; at + 1 < cursors_.size() && before(cursors_[at + 1], moved); ++at) {
      cursors_[at] = cursors_[at + 1];
    }
    cursors_[at] = moved;
  }

  void show() {
    valid_ = !cursors_.empty();
    if (!valid_) return;
    const Cursor& first = cursors_.front();
    own_key_.truncate(prefix_);
    own_key_.append(first.rest());
    own_cell_.clear();
    first.block().cell(first.row, first.part->head, own_cell_);
    key_ = own_key_.slice();
    value_ = own_cell_.slice();
  }

  const RowRun& run_;
  bool forward_ = true;
  std::vector<Cursor> cursors_;  // by the key at hand
  size_t prefix_ = 0;
  ByteString own_key_, own_cell_;
};

class EncodedIterator final : public EntryIterator {
 public:
  explicit EncodedIterator(const EntryRun& run) : run_(run), order_(run.order()) {}

  void seek_first() override { show(0); }
  void seek(Slice key) override { show(run_.lower_bound(key)); }
  void seek_last() override { show(order_.size() - 1); }
  void seek_before(Slice key) override { show(run_.lower_bound(key) - 1); }
  void next() override { show(at_ + 1); }
  void prev() override { show(at_ - 1); }

 private:
  void show(size_t at) {
    at_ = at;
    valid_ = at < order_.size();  // the one before the first is beyond the last, too
    if (!valid_) return;
    const EncodedKeys::Key& one = order_[at].entries->keys[order_[at].at];
    key_ = order_[at].key();
    own_size_[0] = static_cast<uint8_t>((one.size - one.values) >> 8);
    own_size_[1] = static_cast<uint8_t>(one.size - one.values);
    value_ = {own_size_, sizeof own_size_};
  }

  const EntryRun& run_;
  const Vector<EntryRun::Ranked>& order_;
  size_t at_ = 0;
  uint8_t own_size_[2];
};

RowRun::RowRun(const LoadedBlocks& blocks) {
  for (const auto& [block, author] : blocks) {
    if (!block->count()) continue;
    ByteString head;
    block->cell_head(author, head);
    parts_.push_back({block, head.slice().string()});
  }
  if (parts_.empty()) throw InvalidArgument("a run has rows");
}

std::unique_ptr<EntryIterator> RowRun::entries() const {
  return std::make_unique<RowIterator>(*this);
}

bool RowRun::get(Slice key, ByteString& value) const {
  const Slice prefix = parts_.front().block->prefix();
  if (!key.starts_with(prefix)) return false;
  const Slice rest = key.after(prefix.size);
  for (const auto& [block, head] : parts_) {
    if (rest < block->rest(0) || block->rest(block->count() - 1) < rest) continue;
    const size_t row = block->find(key);
    if (row == NO_ROW) continue;
    value.clear();
    block->cell(row, head, value);
    return true;
  }
  return false;
}

size_t RowRun::bytes() const {
  size_t bytes = 0;
  for (const Part& part : parts_) bytes += part.block->memory();
  return bytes;
}

const Vector<EntryRun::Ranked>& EntryRun::order() const {
  const std::lock_guard<std::mutex> lock(sorting_);
  if (sorted_) return order_;
  Vector<Ranked> order;
  size_t count = 0;
  for (const auto& loaded : blocks_) count += loaded.first->entries(plan_).keys.size();
  order.reserve(count);
  for (const auto& loaded : blocks_) {
    const EncodedKeys& entries = loaded.first->entries(plan_);
    const size_t shared = loaded.first->entry_prefix(plan_).size();
    for (size_t at = 0; at < entries.keys.size(); ++at) {
      order.push_back({head_of(entries.key(at).after(shared)), &entries, at});
    }
  }
  std::sort(order.begin(), order.end(), [](const Ranked& left, const Ranked& right) {
    if (left.head != right.head) return left.head < right.head;
    return left.key() < right.key();
  });
  order_.swap(order);
  sorted_ = true;
  return order_;
}

size_t EntryRun::lower_bound(Slice key) const {
  const Vector<Ranked>& all = order();
  const auto at = std::lower_bound(all.begin(), all.end(), key, [](const Ranked& left, Slice right) {
    return left.key() < right;
  });
  return static_cast<size_t>(at - all.begin());
}

std::unique_ptr<EntryIterator> EntryRun::entries() const {
  return std::make_unique<EncodedIterator>(*this);
}

bool EntryRun::get(Slice key, ByteString& value) const {
  EncodedIterator entries(*this);
  entries.seek(key);
  if (!entries.valid() || entries.key() != key) return false;
  value.assign(entries.value());
  return true;
}

size_t EntryRun::bytes() const {
  size_t bytes = 0;
  for (const auto& loaded : blocks_) bytes += loaded.first->entries(plan_).memory();
  return bytes;
}

}  // namespace murmur
