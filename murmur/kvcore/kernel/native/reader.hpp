/* Reads the entries of a table from end to end, past the cache: for merging and checking.
 *
 * Invariant: entries come as from a TableIterator; every block was verified.
 */
#pragma once

#include "stream.hpp"
#include "table.hpp"

namespace murmur {

class TableReader final : public BlockEntries {
 public:
  /* The table must outlive it. */
  explicit TableReader(Table& table) : table_(table), stream_(table) {}

  /* Opens data block `at`; `block` is it afterwards. */
  void open(size_t at);
  const BlockView& block() const { return stream_.block(); }
  size_t blocks() const;
  Handle handle(size_t at) const;

  void seek_first() override;
  void next() override {
    if (++at_ < block().count()) show(block(), at_);
    else open_next(block_at_ + 1);
  }
  void seek(Slice key) override;  // forward only: blocks between are not read
  // It does not go back.
  void seek_last() override;
  void seek_before(Slice) override;
  void prev() override;

 private:
  void open_next(size_t at);

  Table& table_;
  BlockStream stream_;
  size_t block_at_ = 0;
  uint32_t at_ = 0;
};

}  // namespace murmur
