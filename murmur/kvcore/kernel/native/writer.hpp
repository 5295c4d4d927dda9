/* Writes tables and value files.
 *
 *   table       stored data block* | filter | ranges | references | index | footer (table.hpp)
 *   value file  "MURMRVAL" | version u16 | 6 zero bytes | values
 *
 * A data block is closed by the entry that brings its keys and values to `block_bytes`. Bytes go to
 * the file in pieces of 2 MiB; `finish` writes the rest and makes the file durable (its name is
 * the caller's affair).
 *
 * Invariant: the same entries and options give the same bytes, from this and from the twin.
 */
#pragma once

#include <map>
#include <memory>

#include "table.hpp"

namespace murmur {

struct TableOptions {
  uint64_t table_bytes = 0;
  uint32_t block_bytes = 4096;
  uint8_t codec = 0;
  int level = 3;  // of zstd
  uint32_t bits_per_key = 10;
  uint64_t separate_bytes = 0;  // values longer than this go to a value file; 0: none
};

/* Bytes on their way to a file. */
class PiecewiseFile {
 public:
  explicit PiecewiseFile(std::unique_ptr<AppendFile> file) : file_(std::move(file)) {}
  uint64_t size() const { return size_; }
  uint32_t crc() const { return crc_; }  // of all that was committed
  const std::string& path() const { return file_->path(); }
  /* Append to this, then `commit`. */
  ByteString& pending() { return pending_; }
  void commit();
  void append(Slice bytes);
  void finish();  // writes, syncs, closes

 private:
  void write(size_t count);  // the first of those committed

  std::unique_ptr<AppendFile> file_;
  ByteString pending_;
  size_t committed_ = 0;  // of those pending
  uint64_t size_ = 0;
  uint32_t crc_ = 0;
};

class TableWriter {
 public:
  TableWriter(std::unique_ptr<AppendFile> file, uint64_t number, const TableOptions& options);
  /* Keys ascend. */
  void add(Slice key, Kind kind, Slice value);
  /* Ranges ascend, and are disjoint. */
  void add_range(Slice start, Slice stop);
  bool empty() const { return hashes_.empty(); }
  const std::string& first_key() const { return first_; }  // of the entries
  /* Of the blocks that are full, as they are stored. */
  uint64_t size() const { return file_.size(); }
  TableInfo finish(uint64_t max_sequence);

 private:
  void close_block();
  Handle put(uint8_t codec, Slice block);

  const TableOptions options_;
  const uint64_t number_;
  PiecewiseFile file_;
  BlockBuilder block_;
  BlockBuilder index_;
  BlockBuilder ranges_;
  ByteString scratch_;
  Vector<uint32_t> hashes_;
  uint64_t tombstones_ = 0;
  uint64_t range_count_ = 0;
  std::map<uint64_t, uint64_t> references_;
  std::string first_, last_;
  std::string first_range_, last_range_;
};

class ValueWriter {
 public:
  ValueWriter(std::unique_ptr<AppendFile> file, uint64_t number);
  uint64_t number() const { return number_; }
  uint64_t size() const { return file_.size(); }
  Reference add(Slice value);
  void finish() { file_.finish(); }

 private:
  const uint64_t number_;
  PiecewiseFile file_;
};

}  // namespace murmur
