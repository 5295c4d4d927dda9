#include "reader.hpp"

#include <cassert>

#include "contents.hpp"

namespace murmur {

size_t TableReader::blocks() const { return table_.contents().blocks(); }

Handle TableReader::handle(size_t at) const { return table_.contents().handle(at); }

void TableReader::open(size_t at) {
  stream_.open(at);
  block_at_ = at;
  at_ = 0;
  leave_block();
}

void TableReader::seek_first() { open_next(0); }

void TableReader::open_next(size_t at) {
  valid_ = false;
  if (at >= blocks()) {
    block_at_ = blocks();
    return;
  }
  open(at);
  if (!block().count()) throw Corrupt(table_.path(), handle(at).offset, "a block without entries");
  show(block(), at_);
}

void TableReader::seek(Slice key) {
  const Table::Contents& contents = table_.contents();
  const size_t at = contents.find(key);
  valid_ = false;
  if (at >= contents.blocks()) {
    block_at_ = contents.blocks();
    return;
  }
  if (at != block_at_ || !block().count()) open(at);
  at_ = block().lower_bound(key);
  leave_block();
  if (at_ >= block().count())
    throw Corrupt(table_.path(), handle(at).offset,
                  "the index has another last key of the block");
  show(block(), at_);
}

void TableReader::seek_last() { assert(!"a table reader goes forward"); }
void TableReader::seek_before(Slice) { assert(!"a table reader goes forward"); }
void TableReader::prev() { assert(!"a table reader goes forward"); }

}  // namespace murmur
