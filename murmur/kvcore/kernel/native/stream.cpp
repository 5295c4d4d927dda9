#include "stream.hpp"

#include <algorithm>

#include "codec.hpp"
#include "contents.hpp"
#include "crc32.hpp"

namespace murmur {

const BlockView& BlockStream::open(size_t at) {
  const Handle wanted = table_.contents().handle(at);
  const bool inside = piece_bytes_ && wanted.offset >= piece_at_ &&
                      wanted.offset - piece_at_ <= piece_bytes_ &&
                      wanted.length <= piece_bytes_ - (wanted.offset - piece_at_);
  view_ = BlockView();
  if (!inside) read_piece(wanted);
  const Slice stored{piece_.data() + (wanted.offset - piece_at_), wanted.length};
  if (crc32(stored) != wanted.crc)
    throw Corrupt(table_.path(), wanted.offset, "the block does not have its checksum",
                  Damage::Checksum);
  try {
    view_ = BlockView::parse(codec::unpack(stored, raw_), memory_, false);
  } catch (const Malformed& error) {
    throw Corrupt(table_.path(), wanted.offset, error.reason);
  }
  return view_;
}

void BlockStream::read_piece(Handle wanted) {
  const uint64_t end = table_.info().size - FOOTER_BYTES;
  const uint64_t left = end - wanted.offset;  // handles were verified to lie before the footer
  const size_t size = static_cast<size_t>(
      std::min<uint64_t>(left, std::max<uint64_t>(wanted_bytes_, wanted.length)));
  piece_bytes_ = 0;
  if (piece_.size() < size) piece_ = Buffer(size);
  table_.read(wanted.offset, size, piece_.data());
  piece_at_ = wanted.offset;
  piece_bytes_ = size;
  wanted_bytes_ = std::min(2 * wanted_bytes_, LARGEST_PIECE);
  const uint64_t ahead = std::min<uint64_t>(left - size, 2 * wanted_bytes_);
  if (ahead) table_.file_->will_need(wanted.offset + size, ahead);
}

}  // namespace murmur
