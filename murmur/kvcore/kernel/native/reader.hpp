/* Reads a table from end to end in large pieces, past the cache: for merging and checking.
 *
 *   piece   | block 4 | block 5 | block 6 | begin of block 7 |     the next begins with block 7
 *
 * Invariant: entries come as from a TableIterator; every block was verified.
 */
#pragma once

#include "table.hpp"

namespace murmur {

class TableReader final : public EntryIterator {
 public:
  /* The table must outlive it. */
  explicit TableReader(Table& table) : table_(table) {}

  /* Opens data block `at`; `block` is it afterwards. */
  void open(size_t at);
  const BlockView& block() const { return view_; }
  size_t blocks() const;
  Handle handle(size_t at) const;

  void seek_first() override;
  void next() override {
    if (++at_ < view_.count()) show();
    else open_next(block_at_ + 1);
  }
  void seek(Slice key) override;  // forward only: blocks between are not read
  // It does not go back.
  void seek_last() override;
  void seek_before(Slice) override;
  void prev() override;

 private:
  void show();
  void open_next(size_t block);

  Table& table_;
  size_t block_at_ = 0;
  uint32_t at_ = 0;
  uint32_t group_ = UINT32_MAX;  // whose prefix stands in scratch_
  size_t shared_ = 0;
  BlockView view_;
  Buffer piece_;
  uint64_t piece_at_ = 0;    // where it stands in the file
  size_t piece_bytes_ = 0;   // of the buffer that are filled
  ByteString raw_;           // of a compressed block
  Vector<uint64_t> memory_;
  ByteString scratch_;
};

}  // namespace murmur
