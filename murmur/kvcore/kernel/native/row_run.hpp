/* row_run.hpp: blocks of rows in key order, read where they stand and as a source of tables.
 *
 *     RowRun cells({{&block, author}, ...});          cells, in the order of their keys
 *     EntryRun entries({{&block, author}, ...}, 0);   what the blocks made for one entry of the plan
 *     cells.get(key, value);                          as a reader of the tree asks
 *     write_tables({&cells}, options, output);        as of a memtable that holds the same
 *
 * All blocks are of one plan, and no key is in two of them. A cell is made when it is asked for.
 */
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "iterator.hpp"
#include "row_block.hpp"

namespace murmur {

using LoadedBlocks = std::vector<std::pair<const RowBlock*, RowAuthor>>;  // they outlive the run

class RowRun final : public SortedRun {
 public:
  explicit RowRun(const LoadedBlocks& blocks);
  std::unique_ptr<EntryIterator> entries() const override;
  bool get(Slice key, ByteString& value) const override;
  size_t bytes() const override;

 private:
  friend class RowIterator;

  struct Part {
    const RowBlock* block;  // not empty
    std::string head;       // of its cells
  };
  std::vector<Part> parts_;
};

class EntryRun final : public SortedRun {
 public:
  EntryRun(LoadedBlocks blocks, size_t plan) : blocks_(std::move(blocks)), plan_(plan) {}
  std::unique_ptr<EntryIterator> entries() const override;
  bool get(Slice key, ByteString& value) const override;
  size_t bytes() const override;

 private:
  friend class EncodedIterator;

  struct Ranked {
    uint64_t head;  // of what follows the prefix
    const EncodedKeys* entries;
    size_t at;

    Slice key() const { return entries->key(at); }
  };

  /* Sorted by the first who asks: whoever loads need not wait for it. */
  const Vector<Ranked>& order() const;
  size_t lower_bound(Slice key) const;

  const LoadedBlocks blocks_;
  const size_t plan_;
  mutable std::mutex sorting_;
  mutable bool sorted_ = false;
  mutable Vector<Ranked> order_;
};

}  // namespace murmur
