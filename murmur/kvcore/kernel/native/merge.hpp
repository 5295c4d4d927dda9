/* Flush and merge: entries of frozen memtables and tables into new tables, files to files.
 *
 * Sources stand newest first. Of a key only the newest entry is written, unless a range tombstone
 * of a newer source covers it. What decides the bytes, in this order, for each entry:
 *
 *   hidden        by a newer source's entry or range: dropped
 *   tombstone     dropped if `drop_tombstones`: nothing older lies below
 *   cut           the table at hand has `table_bytes` in full blocks: it ends before this entry
 *   create        a table, if there is none at hand
 *   separate      a value longer than `separate_bytes` goes to the value file, made when first
 *                 needed; what refers to a file of `relocate` is copied there too
 *
 * Range tombstones of all sources are joined, and each table gets what lies between its first key
 * and the first key of the next (the first table from the beginning, the last one to the end): no
 * two tables overlap.
 *
 *   ranges [b, x)      tables  a c e | k p | z   ->   [b, k) | [k, x) | -
 *
 * Invariant: reading the newest entry of every key gives the same before and after.
 * After LevelDB's compaction and Pebble's clipping of range tombstones.
 */
#pragma once

#include <map>
#include <memory>
#include <set>

#include "iterator.hpp"
#include "table.hpp"
#include "turns.hpp"
#include "writer.hpp"

namespace murmur {

struct MergeOptions {
  TableOptions table;
  uint64_t max_sequence = 0;
  uint64_t pause_bytes = 1 << 20;         // after so many, `pause` is called
  bool drop_tombstones = false;
  std::set<uint64_t> relocate;            // value files whose values are copied to a new one
  ValueFiles values;                      // they must outlive the merge
};

/* Where new files come from. A function that throws Raised ends the merge; the files are left as
 * they are. */
class MergeOutput {
 public:
  virtual ~MergeOutput() = default;
  virtual std::unique_ptr<AppendFile> create(uint64_t& number) = 0;
  virtual std::unique_ptr<AppendFile> create_values(uint64_t& number) = 0;
  virtual void pause(uint64_t written) = 0;  // with the bytes since the last time
};

/* The binding's output: functions that return nullptr, or -1, when their error waits there. */
struct OutputCallbacks {
  void* output;
  AppendFile* (*create)(void* output, bool values, uint64_t* number);  // the caller's to delete
  int (*pause)(void* output, uint64_t written);
};

class CallbackOutput final : public MergeOutput {
 public:
  explicit CallbackOutput(OutputCallbacks callbacks) : callbacks_(callbacks) {}
  std::unique_ptr<AppendFile> create(uint64_t& number) override { return make(false, number); }
  std::unique_ptr<AppendFile> create_values(uint64_t& number) override {
    return make(true, number);
  }
  void pause(uint64_t written) override {
    const turns::Turn turn(true);
    if (callbacks_.pause(callbacks_.output, written)) throw Raised();
  }

 private:
  std::unique_ptr<AppendFile> make(bool values, uint64_t& number) {
    const turns::Turn turn(true);
    std::unique_ptr<AppendFile> file(callbacks_.create(callbacks_.output, values, &number));
    if (!file) throw Raised();
    return file;
  }

  const OutputCallbacks callbacks_;
};

/* What was written, in key order. */
struct Merged {
  std::vector<TableInfo> tables;
  std::vector<std::pair<uint64_t, uint64_t>> value_files;  // number, size
};

/* The sources must outlive it. */
Merged write_tables(const std::vector<const EntrySource*>& sources, const MergeOptions& options,
                    MergeOutput& output);

/* Sorted, disjoint tables as one source; read past the cache. */
class TableSource final : public EntrySource {
 public:
  explicit TableSource(std::vector<std::shared_ptr<Table>> tables) : tables_(std::move(tables)) {}
  std::unique_ptr<EntryIterator> entries() const override;
  RangeTombstones ranges() const override;

 private:
  std::vector<std::shared_ptr<Table>> tables_;
};

}  // namespace murmur
