/* columns.hpp: fields of records as Arrow columns, straight from the bytes of their cells.
 *
 *     ColumnReader reader(fields);
 *     reader.add(values, size, offsets, count);   cells, one after the other
 *     for (auto& batch : reader.take()) ...       a Column for each field, in their order
 *
 * It is done a block of cells at a time, in two steps: a Finder walks each cell once and notes where
 * the atom of each field is; then each column decodes its own atoms in one tight loop.
 *
 * An atom that is not of its field's kind, or that the column cannot hold, reads null: one row must
 * not keep a table from being read. Bytes that are no record at all are another matter: BadCell.
 *
 * Invariants: a column's buffers are as long as its length says, its text is UTF-8, its decimals
 * have no more digits than its precision. pure/rows.py is the specification.
 */
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "arrow.hpp"
#include "common.hpp"
#include "rows.hpp"

namespace murmur {

// Whether a column of this field can hold an atom; nil is null, and held. Text is not looked into.
bool holds(const FieldSpec& field, const uint8_t* atom);

// One column of one batch, as Arrow lays it out.
struct Column {
  std::string format;
  int64_t length = 0;
  int64_t null_count = 0;
  bool three_buffers = false;  // validity, offsets, data; otherwise validity, values
  ByteString validity;         // empty as long as there is no null
  ByteString values;               // or offsets
  ByteString data;
};

using Batch = std::vector<std::shared_ptr<Column>>;

// Fill in a structure of the C data interface, which the caller owns; it shares the column.
void export_array(const std::shared_ptr<Column>& column, ArrowArray* out);
void export_schema(const std::string& format, ArrowSchema* out);

// Makes columns of cells. For one thread at a time.
class ColumnReader {
 public:
  // A batch is closed once it has this many rows.
  static constexpr int64_t BATCH_ROWS = 1 << 18;

  // So many cells are found, then decoded, at a time.
  static constexpr size_t BLOCK = 256;

  explicit ColumnReader(std::vector<FieldSpec> fields);

  // Add `count` cells: cell i is bytes offsets[i] to offsets[i + 1] of `values`. After BadCell
  // is returned or bad_alloc is thrown, nothing can be done with the reader but to destroy it.
  BadCell add(const uint8_t* values, size_t size, const uint8_t* offsets, size_t count);
  BadCell add(const uint8_t* const* cells, const size_t* sizes, size_t count);

  // What was added since the last `take`, in batches. At least one, so that types are known.
  std::vector<Batch> take();

 private:
  static constexpr size_t STRIDE = BLOCK + 8;       // of slots: columns share no line of the cache
  static constexpr size_t BLOCK_BYTES = 16u << 20;  // of cells, in one block
  static constexpr int64_t FEW_ROWS = 1 << 13;      // seen in a batch, they tell how large it gets
  static constexpr size_t MAX_TEXT = 0x7fffffff;    // Arrow's offsets have 31 bits

  void block(const uint8_t* const* cells, const size_t* sizes, size_t count, size_t first);
  void decode(size_t field, const uint8_t* const* cells, size_t count, size_t first);
  void open();
  void close();
  void reserve();

  std::vector<FieldSpec> fields_;
  Finder finder_;
  std::vector<const uint8_t*> slots_;
  size_t missing_bytes_ = 0;  // the longest `missing`
  Batch batch_;
  int64_t rows_ = 0;
  bool reserved_ = false;
  std::vector<Batch> closed_;
};

}  // namespace murmur
