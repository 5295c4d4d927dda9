/* SSTables for reading: immutable files of sorted entries, verified block by block.
 *
 *   table  := stored data block* | filter | ranges | references | index | footer
 *   stored := codec u8 | block (codec 0), or raw length u32 | compressed block (1 lz4, 2 zstd)
 *   footer := number u64 | entries u64 | tombstones u64 | range tombstones u64 | filter handle
 *           | ranges handle | references handle | index handle | crc u32 of all before the footer
 *           | crc u32 of the footer so far | version u16 | "MURMRSST"
 *   handle := offset u64 | length u32 | crc u32 of the stored block
 *
 * kernel/pure/table.py explains the format. A get is filter, index, block:
 *
 *   heads of the index (u64 after the prefix that all keys share): a binary search in one array
 *   slot of the block: empty -> read, verify, parse, into the cache
 *   the block: a binary search over groups, another within the group
 *
 * Filter, index and ranges are read when the table is first used, and stay. Of a mapped file, the
 * blocks that are not compressed are read where they lie; the cache has their heads and offsets.
 *
 * Invariant: `get` and the iterator give what was written, or throw Corrupt with path and offset.
 * For any number of threads; no lock is held while the file is read.
 * After leveldb's table.
 */
#pragma once

#include <atomic>
#include <map>
#include <memory>

#include "block.hpp"
#include "cache.hpp"
#include "common.hpp"
#include "file.hpp"
#include "iterator.hpp"

namespace murmur {

constexpr uint16_t TABLE_VERSION = 2;  // on disk
constexpr size_t HANDLE_BYTES = 16;
constexpr size_t FOOTER_BYTES = 32 + 4 * HANDLE_BYTES + 4 + 4 + 2 + 8;

/* What the manifest knows of a table. */
struct TableInfo {
  uint64_t number = 0;
  uint64_t size = 0;
  uint64_t entries = 0;
  uint64_t tombstones = 0;
  uint64_t ranges = 0;
  uint64_t max_sequence = 0;
  uint32_t checksum = 0;
  std::string first;
  std::string last;  // not less than any key, nor than any range's stop
  std::vector<std::pair<uint64_t, uint64_t>> references;  // value file, bytes of it
};

/* Where a stored block stands. */
struct Handle {
  uint64_t offset = 0;
  uint32_t length = 0;
  uint32_t crc = 0;

  static Handle decode(const uint8_t* from) {
    return {load<uint64_t>(from), load<uint32_t>(from + 8), load<uint32_t>(from + 12)};
  }
  void encode(uint8_t* to) const {
    store(to, offset);
    store(to + 8, length);
    store(to + 12, crc);
  }
};

/* What a get found. The value is readable as long as `pin` holds its block (or, when it came from
 * a memtable, as long as that lives; from a sorted run it stands in `made`). Whoever has read a
 * put's value calls `pin.verify()`: the file may have been cut meanwhile. */
struct Found {
  Kind kind = Kind::Put;
  Slice value;
  BlockRef pin;
  ByteString made;
};

/* Something wrong that a check found. */
struct Problem {
  std::string path;
  uint64_t offset;
  std::string reason;
};

class ValueFile;
using ValueFiles = std::map<uint64_t, ValueFile*>;  // by number

class Table {
 public:
  /* Corrupt if the file has another size than the manifest says. */
  Table(std::unique_ptr<ReadFile> file, TableInfo info, std::shared_ptr<BlockCache> cache);
  ~Table();
  Table(const Table&) = delete;
  Table& operator=(const Table&) = delete;

  const TableInfo& info() const { return info_; }
  const std::string& path() const { return file_->path(); }

  /* Whether the table has an entry of this key; `hash` is crc32(key). Ranges are not asked. */
  bool get(Slice key, uint32_t hash, Found& found) {
    size_t block;
    return may_have(key, hash, block) && get_from(block, key, found);
  }
  /* The same in steps, between which the memory that the next one needs comes on its way: the block
   * that may have the key, if there is one, and the entry in it. */
  void prefetch_filter(uint32_t hash);
  bool may_have(Slice key, uint32_t hash, size_t& block);
  void prefetch_slot(size_t block) { __builtin_prefetch(&slot(contents(), block)); }
  void prefetch_block(size_t block) { cache_->prefetch(slot(contents(), block)); }
  bool get_from(size_t block, Slice key, Found& found);
  /* The range tombstones, disjoint and ascending. */
  const RangeTombstones& ranges();
  /* Whether a range tombstone of this table covers the key. */
  bool covers(Slice key) { return info_.ranges != 0 && covering(ranges(), key) != nullptr; }
  /* Reads all of it, past the cache: what is wrong, if anything is. With value files, by number,
   * the values that it refers to are read as well. */
  std::vector<Problem> check(const ValueFiles* values = nullptr);
  /* What is not in memory throws ClosedError from now on. */
  void close() { closed_.store(true, std::memory_order_relaxed); }
  /* Bytes of filter, index and ranges in memory; 0 before the first use. */
  uint64_t resident() const;

  /* How many get calls the filter answered, and how many it let pass in vain. About. */
  uint64_t filtered() const { return filtered_.load(std::memory_order_relaxed); }
  uint64_t passed_in_vain() const { return passed_.load(std::memory_order_relaxed); }

 private:
  friend class TableIterator;
  friend class TableReader;
  friend class BlockStream;
  struct Contents;

  const Contents& contents() {
    const Contents* known = contents_.load(std::memory_order_acquire);
    return known ? *known : load_contents();
  }
  const Contents& load_contents();
  std::unique_ptr<Contents> read_contents();
  BlockRef cached_block(const Contents& contents, size_t at, bool keep) {
    return cache_->find(slot(contents, at), keep);
  }
  BlockRef block(const Contents& contents, size_t at, bool keep) {
    BlockRef found = cached_block(contents, at, keep);
    return found ? std::move(found) : load_block(contents, at, keep);
  }
  static Slot& slot(const Contents& contents, size_t at);
  BlockRef load_block(const Contents& contents, size_t at, bool keep);
  void check_value(const Reference& reference, uint64_t offset, const ValueFiles& values,
                   std::vector<Problem>& problems) const;
  Buffer read_block(Handle handle, const char* what, size_t& skip);
  void read_verified(Handle handle, const char* what, uint8_t* out);
  void read(uint64_t offset, size_t size, uint8_t* out);

  std::unique_ptr<ReadFile> file_;
  const TableInfo info_;
  std::shared_ptr<BlockCache> cache_;
  const std::shared_ptr<const MappedFile> mapped_;  // or nothing
  std::atomic<const Contents*> contents_{nullptr};
  std::atomic<bool> closed_{false};
  std::atomic<uint64_t> filtered_{0};
  std::atomic<uint64_t> passed_{0};
};

class BlockStream;

/* A cursor over a table's entries, through the cache. The first blocks after each search count as
 * wanted, as those of a get do. What a long scan then lacks is read past the cache, or, backward,
 * goes first from there. The table must outlive it.
 *
 * Whoever has read entries calls `verify` before relying on them; a movement to another block throws
 * Corrupt where that would have. */
class TableIterator final : public BlockEntries {
 public:
  explicit TableIterator(Table& table);
  ~TableIterator() override;
  void seek(Slice key) override;
  void seek_first() override;
  void seek_last() override;
  void seek_before(Slice key) override;
  void next() override {
    if (++at_ < count_) show(*view_, at_);
    else next_block();
  }
  void prev() override {
    if (at_-- > 0) show(*view_, at_);
    else prev_block();
  }
  void verify() const { block_.verify(); }
  /* Whether the file is not mapped, or was not cut since. */
  bool whole() const { return !table_.mapped_ || table_.mapped_->whole(); }

 private:
  bool open(size_t block, bool forward = true);
  void next_block();
  void prev_block();

  Table& table_;
  static constexpr uint32_t SHORT_SCAN = 8;  // blocks
  uint32_t opened_ = 0;                      // since the last search
  size_t block_at_ = 0;
  uint32_t at_ = 0;
  uint32_t count_ = 0;
  const BlockView* view_ = nullptr;  // of `block_` or of `stream_`
  BlockRef block_;
  std::unique_ptr<BlockStream> stream_;
};

/* A value file open for reading: "MURMRVAL" | version u16 | 6 zero bytes | values. */
class ValueFile {
 public:
  /* Corrupt if the file has another size. */
  ValueFile(std::unique_ptr<ReadFile> file, uint64_t number, uint64_t size);
  uint64_t number() const { return number_; }
  uint64_t size() const { return size_; }
  const std::string& path() const { return file_->path(); }
  /* The value that a reference names, into `out` (of reference.length bytes). */
  void read(const Reference& reference, uint8_t* out);
  /* Throws Corrupt if a reference names bytes that the file cannot have: before allocating. */
  void verify_bounds(const Reference& reference) const;
  std::vector<Problem> check();  // the header and the size: checksums stand in the tables
  void close() { closed_.store(true, std::memory_order_relaxed); }

 private:
  std::unique_ptr<ReadFile> file_;
  const uint64_t number_;
  const uint64_t size_;
  std::atomic<bool> closed_{false};
};

constexpr uint16_t VALUES_VERSION = 1;  // on disk
constexpr size_t VALUES_HEADER_BYTES = 16;

}  // namespace murmur
