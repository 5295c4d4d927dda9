#include "row_run.hpp"

#include <algorithm>
#include <cassert>

namespace murmur {

namespace {

/* Goes forward only, as flush and merge do. */
class ForwardIterator : public EntryIterator {
 public:
  void seek(Slice key) override {
    seek_first();
    while (valid() && this->key() < key) next();
  }
  void seek_last() override { assert(!"a run goes forward"); }
  void seek_before(Slice) override { assert(!"a run goes forward"); }
  void prev() override { assert(!"a run goes forward"); }
};

class RowIterator final : public ForwardIterator {
 public:
  explicit RowIterator(const LoadedBlocks& blocks) : blocks_(blocks) {}

  void seek_first() override {
    cursors_.clear();
    heads_.clear();
    for (const auto& [block, author] : blocks_) {
      if (!block->count()) continue;
      ByteString head;
      block->cell_head(author, head);
      heads_.push_back(head.slice().string());
      cursors_.push_back({block, heads_.size() - 1, 0});
    }
    if (!cursors_.empty()) own_key_.assign(cursors_.front().block->prefix());
    prefix_ = own_key_.size();
    std::sort(cursors_.begin(), cursors_.end(), [](const Cursor& left, const Cursor& right) {
      return left.rest() < right.rest();
    });
    show();
  }

  void next() override {
    Cursor& first = cursors_.front();
    if (++first.row == first.block->count()) {
      cursors_.erase(cursors_.begin());
    } else if (cursors_.size() > 1 && cursors_[1].rest() < first.rest()) {
      const Cursor moved = first;
      size_t at = 0;
      for (; at + 1 < cursors_.size() && cursors_[at + 1].rest() < moved.rest(); ++at) {
        cursors_[at] = cursors_[at + 1];
      }
      cursors_[at] = moved;
    }
    show();
  }

 private:
  struct Cursor {
    const RowBlock* block;
    size_t head;  // of its cells
    size_t row;
    Slice rest() const { return block->rest(row); }
  };

  void show() {
    valid_ = !cursors_.empty();
    if (!valid_) return;
    const Cursor& first = cursors_.front();
    own_key_.truncate(prefix_);
    own_key_.append(first.rest());
    own_cell_.clear();
    first.block->cell(first.row, heads_[first.head], own_cell_);
    key_ = own_key_.slice();
    value_ = own_cell_.slice();
  }

  const LoadedBlocks& blocks_;
  std::vector<Cursor> cursors_;  // by the key at hand
  std::vector<std::string> heads_;
  size_t prefix_ = 0;
  ByteString own_key_, own_cell_;
};

class EncodedIterator final : public ForwardIterator {
 public:
  EncodedIterator(const LoadedBlocks& blocks, size_t plan) {
    size_t count = 0;
    for (const auto& loaded : blocks) count += loaded.first->entries(plan).keys.size();
    order_.reserve(count);
    for (const auto& loaded : blocks) {
      const EncodedKeys& entries = loaded.first->entries(plan);
      const size_t shared = loaded.first->entry_prefix(plan).size();
      for (size_t at = 0; at < entries.keys.size(); ++at) {
        order_.push_back({head_of(entries.key(at).after(shared)), &entries, at});
      }
    }
    std::sort(order_.begin(), order_.end(), [](const Ranked& left, const Ranked& right) {
      if (left.head != right.head) return left.head < right.head;
      return left.entries->key(left.at) < right.entries->key(right.at);
    });
  }

  void seek_first() override {
    at_ = 0;
    show();
  }
  void next() override {
    ++at_;
    show();
  }

 private:
  struct Ranked {
    uint64_t head;  // of what follows the prefix
    const EncodedKeys* entries;
    size_t at;
  };

  void show() {
    valid_ = at_ < order_.size();
    if (!valid_) return;
    const EncodedKeys::Key& one = order_[at_].entries->keys[order_[at_].at];
    key_ = order_[at_].entries->key(order_[at_].at);
    own_size_[0] = static_cast<uint8_t>((one.size - one.values) >> 8);
    own_size_[1] = static_cast<uint8_t>(one.size - one.values);
    value_ = {own_size_, sizeof own_size_};
  }

  Vector<Ranked> order_;
  size_t at_ = 0;
  uint8_t own_size_[2];
};

}  // namespace

std::unique_ptr<EntryIterator> RowRun::entries() const {
  return std::make_unique<RowIterator>(blocks_);
}

std::unique_ptr<EntryIterator> EntryRun::entries() const {
  return std::make_unique<EncodedIterator>(blocks_, plan_);
}

}  // namespace murmur
