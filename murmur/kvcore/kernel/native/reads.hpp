/* Reads: one arrangement of memtables, sorted runs and tables, and the walk through all of it.
 *
 *   get    memtables and sorted runs newest first, then level 0 newest first, then the levels
 *          downward: the first that has an entry of the key, or a range tombstone over it, decides
 *
 * An arrangement never changes, so whoever holds it reads consistently at a sequence, whatever flush
 * and compaction do meanwhile. It does not own its parts, which are added newest first.
 *
 * Invariant: at a sequence, a key has the value of the last batch up to it that wrote the key.
 */
#pragma once

#include <cstdint>
#include <vector>

#include "common.hpp"
#include "memtable.hpp"
#include "table.hpp"

namespace murmur {

/* A sorted run of disjoint tables: a deeper level, or one table of level 0. It is searched by first
 * keys, since the last one may be the stop of a range tombstone, with which the next may begin. */
class Run {
 public:
  void add(Table* table);  // in key order

  size_t size() const { return tables_.size(); }
  Table& operator[](size_t at) const { return *tables_[at]; }
  Slice first(size_t at) const { return tables_[at]->info().first; }
  Slice last(size_t at) const { return tables_[at]->info().last; }
  bool has_ranges() const { return has_ranges_; }

  /* How many tables begin at or before the key (before it: not `including`). */
  size_t upto(Slice key, bool including = true) const;
  /* The table that may hold the key, or nullptr. */
  Table* find(Slice key) const;

 private:
  std::vector<Table*> tables_;
  std::vector<uint64_t> heads_;  // of their first keys
  bool has_ranges_ = false;
};

class Reads {
 public:
  void add_memtable(const Memtable* memtable) { layers_.push_back({memtable, nullptr}); }
  void add_sorted_run(const SortedRun* run) { layers_.push_back({nullptr, run}); }
  void add_run() { runs_.emplace_back(); }
  void add_table(Table* table) { runs_.back().add(table); }  // of the run added last
  void add_values(ValueFile* file);

  /* Whether the key has a value at the sequence; `found.kind` tells whether it is a reference. */
  bool get(Slice key, uint64_t sequence, Found& found) const;
  /* The same for the keys that `order` names, and in this order: found[0] is that of
   * keys[order[0]]. Near keys side by side share their blocks. */
  void get_many(const Slice* keys, const uint32_t* order, size_t count, uint64_t sequence,
                Found* found, bool* present) const;

  /* Where the value of a reference stands. Its bounds are within the file. */
  ValueFile& values_of(const Reference& reference) const;

 private:
  friend class Scan;

  /* What is in memory: one of the two. */
  struct Layer {
    const Memtable* memtable;
    const SortedRun* run;
  };

  bool get_from_tables(Slice key, uint32_t hash, Found& found) const;
  void get_many_from_tables(const Lookup* lookups, size_t count, Found* found, bool* present) const;

  std::vector<Layer> layers_;
  std::vector<Run> runs_;
  std::vector<ValueFile*> values_;  // ascending
};

}  // namespace murmur
