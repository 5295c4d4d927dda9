/* Reads a table's blocks in large pieces, past the cache: for merging, checking and long scans.
 *
 *   piece   | block 4 | block 5 | block 6 | begin of block 7 |     the next begins with block 7
 *
 * Pieces begin small and double, so that who stops early has not read much in vain.
 *
 * Invariant: every block was verified.
 */
#pragma once

#include "table.hpp"

namespace murmur {

class BlockStream {
 public:
  static constexpr size_t LARGEST_PIECE = 256 << 10;

  /* The table must outlive it. */
  explicit BlockStream(Table& table, size_t piece_bytes = LARGEST_PIECE)
      : table_(table), wanted_bytes_(piece_bytes) {}

  /* Data block `at`, until the next call. It has no heads: searching it takes longer. */
  const BlockView& open(size_t at);
  const BlockView& block() const { return view_; }

 private:
  void read_piece(Handle wanted);

  Table& table_;
  size_t wanted_bytes_;  // of the next piece
  BlockView view_;
  Buffer piece_;
  uint64_t piece_at_ = 0;   // where it stands in the file
  size_t piece_bytes_ = 0;  // of the buffer that are filled
  ByteString raw_;          // of a compressed block
  Vector<uint64_t> memory_;
};

}  // namespace murmur
