/* row_run.hpp: blocks of rows as a source of tables.
 *
 *     RowRun cells({{&block, author}, ...});          cells, in the order of their keys
 *     EntryRun entries({{&block, author}, ...}, 0);   what the blocks made for one entry of the plan
 *     write_tables({&cells}, options, output);        as of a memtable that holds the same
 *
 * All blocks are of one plan, and no key is in two of them. Nothing is copied but the entry at hand.
 */
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "iterator.hpp"
#include "row_block.hpp"

namespace murmur {

using LoadedBlocks = std::vector<std::pair<const RowBlock*, RowAuthor>>;  // they outlive the run

class RowRun final : public EntrySource {
 public:
  explicit RowRun(LoadedBlocks blocks) : blocks_(std::move(blocks)) {}
  std::unique_ptr<EntryIterator> entries() const override;
  RangeTombstones ranges() const override { return {}; }

 private:
  const LoadedBlocks blocks_;
};

class EntryRun final : public EntrySource {
 public:
  EntryRun(LoadedBlocks blocks, size_t plan) : blocks_(std::move(blocks)), plan_(plan) {}
  std::unique_ptr<EntryIterator> entries() const override;
  RangeTombstones ranges() const override { return {}; }

 private:
  const LoadedBlocks blocks_;
  const size_t plan_;
};

}  // namespace murmur
