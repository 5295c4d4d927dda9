/* row_block.hpp: rows on their way into a table, many at a time.
 *
 *     RowEncoder encoder(plan);
 *     encoder.integer(7); encoder.text({"a", 1}); encoder.end({});      one row, column by column
 *     std::unique_ptr<RowBlock> block = encoder.finish();               in the order of their keys
 *
 * A row is encoded once, as the operation of a record (record.py), and all else is made of that:
 *
 *     operation := 04 | length varint | key | length varint | body      INSERT
 *     body      := msgpack [{field: atom}] or [{field: atom}, {field: counter}]
 *     cell      := msgpack [1, stamp, replica, seq, as in the body]     cell.py, what the tree holds
 *     entry     := prefix | columns | primary key -> its length, u16    of an index or foreign key
 *     claim     := the part of a unique entry that no other row may have; none if a column is NULL
 *     parent    := prefix | columns                                     a key that a row refers to
 *
 * Columns come in the order in which the body has them: fields by id, then counters by id. Nothing
 * here knows of tables. pure/row_block.py is the specification.
 *
 * Invariants: what a slot points to is a whole atom; a row that was not ended leaves nothing; a
 * block never changes.
 */
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "common.hpp"
#include "keycode.hpp"
#include "memtable.hpp"
#include "reads.hpp"
#include "rows.hpp"

namespace murmur {

constexpr size_t NO_ROW = ~size_t{0};

/* What is made of each row beside its cell. */
enum class EntryKind : uint8_t {
  Index = 1,   // an entry, NULLs included
  Claim = 2,   // the same, and its values are claimed
  Child = 3,   // an entry, unless a column is NULL
  Parent = 4,  // a key that must be there, unless a column is NULL; no entry
};

struct EntryPlan {
  EntryKind kind = EntryKind::Index;
  std::string prefix;
  std::vector<size_t> columns;  // of the body
  std::vector<KeyColumn> keys;  // how each of them is encoded
};

struct BlockPlan {
  std::vector<uint32_t> fields;    // ids, ascending
  std::vector<uint32_t> counters;  // ids, ascending
  std::string prefix;              // of every key
  std::vector<size_t> key_columns;  // of the body; none: rows have ids of 16 bytes
  std::vector<KeyColumn> keys;
  std::vector<EntryPlan> entries;
};

/* Who wrote a row, and when. */
struct RowAuthor {
  uint64_t stamp;
  uint8_t replica[8];
  uint64_t seq;
};

/* Encoded keys in one piece of memory, with the row of each. */
struct EncodedKeys {
  struct Key {
    uint64_t start;
    uint32_t size;
    uint32_t values;  // the size without the primary key
    uint32_t row;
    bool whole;  // no column is NULL
  };
  ByteString bytes;
  Vector<Key> keys;

  Slice key(size_t at) const { return {bytes.data() + keys[at].start, keys[at].size}; }
  Slice values(size_t at) const { return {bytes.data() + keys[at].start, keys[at].values}; }
};

class RowBlock {
 public:
  size_t count() const { return rows_.size(); }
  /* Of the operations. */
  size_t bytes() const { return bytes_.size(); }

  // Rows by number: in the order of their keys.
  Slice key(size_t row) const;
  Slice body(size_t row) const;
  /* Which row it was as they came. */
  size_t place(size_t row) const { return order_.empty() ? row : order_[row]; }
  /* The row with this key, NO_ROW if there is none. */
  size_t find(Slice key) const;
  /* Whether there may be a row or an entry with start <= key < stop (not `bounded`: no stop). */
  bool touches(Slice start, Slice stop, bool bounded) const;
  /* The first row whose key is not below this one. */
  size_t lower_bound(Slice key) const;
  /* The first row, as they came, that has the key of one before it; NO_ROW: none. */
  size_t repeated() const { return repeated_; }

  /* All operations, in key order. */
  void operations(ByteString& out) const;
  void cell(size_t row, const RowAuthor& author, ByteString& out) const;
  /* Cells and entries, as a memtable takes them; the cells are put into `cells`. */
  void writes(const RowAuthor& author, ByteString& cells, Vector<Operation>& out) const;

  size_t plans() const { return entries_.size(); }
  EntryKind kind(size_t plan) const { return kinds_[plan]; }
  const EncodedKeys& entries(size_t plan) const { return entries_[plan]; }

  /* Claims of one plan, ascending; and likewise the parents of one, each once. */
  size_t asked_count(size_t plan) const { return asked_[plan].size(); }
  Slice asked(size_t plan, size_t at) const { return entries_[plan].values(asked_[plan][at]); }
  size_t asked_row(size_t plan, size_t at) const { return entries_[plan].keys[asked_[plan][at]].row; }
  /* The first row, as they came, whose claim one before it has; NO_ROW: none. */
  size_t reclaimed(size_t plan) const { return reclaimed_[plan]; }
  /* Which claim begins this key; NO_ROW if none does. */
  size_t claim_of(size_t plan, Slice key) const;

  /* The first key, or claim of a plan, that something in the tree has or begins with; NO_ROW: none. */
  size_t present_key(const Reads& reads, uint64_t sequence) const;
  size_t present_claim(size_t plan, const Reads& reads, uint64_t sequence) const;
  /* The first key, or claim of a plan, that is also in another block of the same plan. */
  size_t shared_key(const RowBlock& other) const;
  size_t shared_claim(size_t plan, const RowBlock& other) const;

 private:
  friend class RowEncoder;

  struct Row {
    uint64_t start;  // of its operation
    uint32_t key_at, key_size, body_at, body_size;
  };

  ByteString bytes_;
  Vector<Row> rows_;         // by key
  Vector<uint32_t> order_;   // by key, how they came; empty if they came by key
  size_t repeated_ = NO_ROW;
  std::vector<EncodedKeys> entries_;
  std::vector<EntryKind> kinds_;
  std::vector<std::string> prefixes_;
  std::vector<Vector<uint32_t>> asked_;
  std::vector<size_t> reclaimed_;
};

/* Encodes rows; for one thread at a time. After an exception a row has to be dropped. */
class RowEncoder {
 public:
  explicit RowEncoder(BlockPlan plan);

  // The next column of the row.
  void null();
  void boolean(bool value);
  void integer(int64_t value);
  void unsigned_integer(uint64_t value);
  void floating(double value);
  void text(Slice value);
  void binary(Slice value);
  /* msgpack that is one whole atom; false if it is not. */
  bool atom(Slice packed);

  /* The row is complete. Without key columns, `row_id` is its id. False when an atom is none of
   * its key column's; InvalidArgument for a key that is too long. */
  bool end(Slice row_id);
  /* Forget the columns since the last `end`. */
  void drop();

  size_t columns() const { return leads_.size(); }
  size_t at() const { return slots_.size(); }  // the next column
  size_t count() const { return block_->rows_.size(); }
  size_t bytes() const { return block_->bytes_.size(); }
  /* The body of the row that was ended last. */
  Slice last_body() const;
  /* What the encoder has of rows, in key order; it goes on with nothing. */
  std::unique_ptr<RowBlock> finish();

 private:
  void begin();
  uint8_t* next(size_t size);
  bool put(KeyWriter& writer, const KeyColumn& column, const uint8_t* atom) const;
  bool write_key(Slice row_id);
  bool write_entry(size_t plan, Slice primary_key);
  void sort_rows();
  void sort_asked(size_t plan);

  BlockPlan plan_;
  std::string head_;
  std::vector<std::string> leads_;  // what precedes each atom
  KeyWriter key_;
  std::vector<KeyWriter> writers_;  // of the entries
  ByteString body_;
  Vector<uint32_t> slots_;  // where each atom of the row begins in the body
  std::unique_ptr<RowBlock> block_;
};

/* msgpack's head of a map or an array. */
void append_map(ByteString& out, size_t count);

}  // namespace murmur
