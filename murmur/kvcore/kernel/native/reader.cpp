#include "reader.hpp"

#include <algorithm>
#include <cassert>

#include "codec.hpp"
#include "contents.hpp"
#include "crc32.hpp"

namespace murmur {

namespace {
constexpr size_t PIECE_BYTES = 256 << 10;
}

size_t TableReader::blocks() const { return table_.contents().blocks(); }

Handle TableReader::handle(size_t at) const { return table_.contents().handle(at); }

void TableReader::open(size_t at) {
  const Handle wanted = handle(at);
  const bool inside = piece_bytes_ && wanted.offset >= piece_at_ &&
                      wanted.offset - piece_at_ <= piece_bytes_ &&
                      wanted.length <= piece_bytes_ - (wanted.offset - piece_at_);
  if (!inside) {
    const uint64_t end = table_.info().size - FOOTER_BYTES;
    const uint64_t left = end - wanted.offset;  // handles were verified to lie before the footer
    const size_t size = static_cast<size_t>(
        std::min<uint64_t>(left, std::max<uint64_t>(PIECE_BYTES, wanted.length)));
    piece_bytes_ = 0;
    if (piece_.size() < size) piece_ = Buffer(size);
    table_.read(wanted.offset, size, piece_.data());
    piece_at_ = wanted.offset;
    piece_bytes_ = size;
    const uint64_t ahead = std::min<uint64_t>(left - size, 2 * PIECE_BYTES);
    if (ahead) table_.file_->will_need(wanted.offset + size, ahead);
  }
  const Slice stored{piece_.data() + (wanted.offset - piece_at_), wanted.length};
  if (crc32(stored) != wanted.crc)
    throw Corrupt(table_.path(), wanted.offset, "the block does not have its checksum",
                  Damage::Checksum);
  try {
    view_ = BlockView();
    view_ = BlockView::parse(codec::unpack(stored, raw_), memory_, false);
  } catch (const Malformed& error) {
    throw Corrupt(table_.path(), wanted.offset, error.reason);
  }
  block_at_ = at;
  at_ = 0;
  group_ = UINT32_MAX;
}

void TableReader::seek_first() { open_next(0); }

void TableReader::open_next(size_t block) {
  valid_ = false;
  if (block >= blocks()) {
    block_at_ = blocks();
    return;
  }
  open(block);
  if (!view_.count()) throw Corrupt(table_.path(), handle(block).offset, "a block without entries");
  show();
}

void TableReader::show() {
  const Slice own = view_.suffix(at_);
  if (at_ / GROUP != group_) {
    group_ = at_ / GROUP;
    const Slice prefix = view_.prefix(at_);
    scratch_.assign(prefix);
    shared_ = prefix.size;
  }
  if (shared_) {
    scratch_.truncate(shared_);
    scratch_.append(own);
    key_ = scratch_.slice();
  } else {
    key_ = own;
  }
  value_ = view_.value(at_);
  kind_ = view_.kind(at_);
  valid_ = true;
}

void TableReader::seek(Slice key) {
  const Table::Contents& contents = table_.contents();
  const size_t block = contents.find(key);
  valid_ = false;
  if (block >= contents.blocks()) {
    block_at_ = contents.blocks();
    return;
  }
  if (block != block_at_ || !view_.count()) open(block);
  at_ = view_.lower_bound(key);
  group_ = UINT32_MAX;
  if (at_ >= view_.count())
    throw Corrupt(table_.path(), handle(block).offset,
                  "the index has another last key of the block");
  show();
}

void TableReader::seek_last() { assert(!"a table reader goes forward"); }
void TableReader::seek_before(Slice) { assert(!"a table reader goes forward"); }
void TableReader::prev() { assert(!"a table reader goes forward"); }

}  // namespace murmur
