/* row_block.hpp: rows on their way into a table, many at a time.
 *
 *     RowEncoder encoder(plan);
 *     encoder.integer(7); encoder.text({"a", 1}); encoder.end({});      one row, column by column
 *     std::unique_ptr<RowBlock> block = encoder.finish();               in the order of their keys
 *
 * A row is encoded once, as it stands in the operation of a record (record.py), and all else is
 * made of that:
 *
 *     operation := 07 | length varint | prefix | length varint | payload     ROWS
 *     payload   := msgpack: [field*], [counter*], count | row*
 *     row       := msgpack: atom* | the key without the prefix
 *     body      := msgpack [{field: atom}] or [{field: atom}, {field: counter}]
 *     cell      := msgpack [1, stamp, replica, seq, as in the body]     cell.py, what the tree holds
 *     entry     := prefix | columns | primary key -> its length, u16    of an index or foreign key
 *     claim     := the part of a unique entry that no other row may have; none if a column is NULL
 *     parent    := prefix | columns                                     a key that a row refers to
 *
 * Columns come in the order in which a body has them: fields by id, then counters by id. Nothing
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
  size_t memory() const { return bytes.size() + keys.size() * sizeof(Key); }
};

constexpr size_t NEAR_BYTES = 16;

/* What all rows of a plan have in common. */
struct RowShape {
  struct Lead {
    uint8_t bytes[NEAR_BYTES] = {};  // the head of a map, and an id
    size_t size = 0;
  };
  std::string prefix;        // of every key
  std::string head;          // how a body begins,
  std::vector<Lead> leads;   // and what precedes each of its atoms
  std::string fields;        // how the payload of an operation begins, before the count
  size_t common = 0;         // the size of all that is not an atom in a body
};

class RowBlock {
 public:
  size_t count() const { return rows_.size(); }
  const std::string& prefix() const { return shape_->prefix; }
  /* Of all rows. */
  size_t bytes() const { return bytes_.size(); }
  /* What they take, entries apart. */
  size_t memory() const { return bytes_.size() + rows_.size() * sizeof(Row); }

  // Rows by number: in the order of their keys.
  /* The key without the prefix. */
  Slice rest(size_t row) const;
  /* The atoms, one after the other. */
  Slice atoms(size_t row) const;
  void key(size_t row, ByteString& out) const;
  void body(size_t row, ByteString& out) const;
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

  /* The operation: its head, and then all rows in key order. Without rows there is none. */
  void operation_head(ByteString& out) const;
  Slice rows() const { return bytes_.slice(); }
  void cell(size_t row, const RowAuthor& author, ByteString& out) const;
  /* What all cells of an author begin with, and a cell, given that. */
  void cell_head(const RowAuthor& author, ByteString& out) const;
  void cell(size_t row, Slice head, ByteString& out) const;
  /* Cells and entries, as a memtable takes them; keys and cells are put into `cells`. */
  void writes(const RowAuthor& author, ByteString& cells, Vector<Operation>& out) const;

  size_t plans() const { return entries_.size(); }
  EntryKind kind(size_t plan) const { return kinds_[plan]; }
  const EncodedKeys& entries(size_t plan) const { return entries_[plan]; }
  const std::string& entry_prefix(size_t plan) const { return prefixes_[plan]; }

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
    uint64_t start;
    uint32_t size;
    uint32_t rest;  // the size of the key without the prefix, which the row ends with
  };

  std::shared_ptr<const RowShape> shape_;
  ByteString bytes_;         // the rows, one after the other
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

  size_t columns() const { return slots_.size(); }
  size_t at() const { return at_; }  // the next column
  size_t count() const { return block_->rows_.size(); }
  size_t bytes() const { return ended_; }
  /* The row that was ended last, as `RowBlock::body` gives it. */
  void last_body(ByteString& out) const;
  /* What the encoder has of rows, in key order; it goes on with nothing. */
  std::unique_ptr<RowBlock> finish();

 private:
  void begin();
  uint8_t* next(size_t size);
  void check_size(size_t more) const;
  const uint8_t* slot(size_t column) const { return block_->bytes_.data() + ended_ + slots_[column]; }
  bool put(KeyWriter& writer, const KeyColumn& column, const uint8_t* atom) const;
  bool write_key(Slice row_id);
  bool write_entry(size_t plan, Slice primary_key);
  void sort_rows();
  void sort_asked(size_t plan);

  BlockPlan plan_;
  std::shared_ptr<const RowShape> shape_;
  KeyWriter key_;
  std::vector<KeyWriter> writers_;  // of the entries
  Vector<uint32_t> slots_;  // where each atom of the row begins, from the row's beginning on
  size_t at_ = 0;           // of the columns
  size_t ended_ = 0;        // the size of all rows that were ended
  std::unique_ptr<RowBlock> block_;
};

/* msgpack's head of a map. */
void append_map(ByteString& out, size_t count);

}  // namespace murmur
