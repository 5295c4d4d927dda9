#include "reads.hpp"

#include <algorithm>

#include "crc32.hpp"

namespace murmur {
namespace {

constexpr size_t TOGETHER = 32;  // lookups whose memory is fetched at once

}  // namespace

void Run::add(Table* table) {
  tables_.push_back(table);
  heads_.push_back(head_of(table->info().first));
  has_ranges_ = has_ranges_ || table->info().ranges != 0;
}

size_t Run::upto(Slice key, bool including) const {
  const uint64_t head = head_of(key);
  size_t low = std::lower_bound(heads_.begin(), heads_.end(), head) - heads_.begin();
  size_t high = low;
  while (high < heads_.size() && heads_[high] == head) high++;
  while (low < high) {  // where heads are equal, keys decide
    const size_t middle = (low + high) / 2;
    const int order = first(middle).compare(key);
    if (order < 0 || (order == 0 && including)) low = middle + 1;
    else high = middle;
  }
  return low;
}

Table* Run::find(Slice key) const {
  const size_t at = upto(key);
  return at && key <= last(at - 1) ? tables_[at - 1] : nullptr;
}

void Reads::add_values(ValueFile* file) {
  const auto at = std::lower_bound(
      values_.begin(), values_.end(), file->number(),
      [](const ValueFile* left, uint64_t number) { return left->number() < number; });
  values_.insert(at, file);
}

bool Reads::get(Slice key, uint64_t sequence, Found& found) const {
  const uint32_t hash = crc32(key);
  found.kind = Kind::Put;
  for (const Layer& layer : layers_) {
    if (layer.run) {
      if (!layer.run->get(key, found.made)) continue;
      found.value = found.made.slice();
      return true;
    }
    const Seen seen = layer.memtable->get(key, hash, sequence, found.value);
    if (seen != Seen::Nothing) return seen == Seen::Value;
  }
  return get_from_tables(key, hash, found);
}

bool Reads::get_from_tables(Slice key, uint32_t hash, Found& found) const {
  for (const Run& run : runs_) {
    Table* table = run.find(key);
    if (!table) continue;
    // Its ranges hide what is older, not its own entry of the key.
    if (table->get(key, hash, found)) return found.kind != Kind::Tombstone;
    if (table->covers(key)) return false;
  }
  return false;
}

void Reads::get_many(const Slice* keys, const uint32_t* order, size_t count, uint64_t sequence,
                     Found* found, bool* present) const {
  Lookup lookups[TOGETHER];
  for (size_t start = 0; start < count; start += TOGETHER) {
    const size_t some = std::min(TOGETHER, count - start);
    for (size_t at = 0; at < some; at++) {
      const Slice key = keys[order[start + at]];
      lookups[at] = {key, crc32(key), Seen::Nothing, Slice()};
    }
    for (const Layer& layer : layers_) {
      if (layer.memtable) {
        layer.memtable->get_many(lookups, some, sequence);
        continue;
      }
      for (size_t at = 0; at < some; at++) {
        Lookup& one = lookups[at];
        ByteString& made = found[start + at].made;
        if (one.seen != Seen::Nothing || !layer.run->get(one.key, made)) continue;
        one.seen = Seen::Value;
        one.value = made.slice();
      }
    }
    for (size_t at = 0; at < some; at++) {
      const Lookup& one = lookups[at];
      present[start + at] = one.seen == Seen::Value;
      found[start + at].kind = Kind::Put;
      found[start + at].value = one.value;
    }
    get_many_from_tables(lookups, some, found + start, present + start);
  }
}

/* What memtables have not decided. Run by run, and in each in steps: while one lookup waits for
 * memory, the others go on. */
void Reads::get_many_from_tables(const Lookup* lookups, size_t count, Found* found,
                                 bool* present) const {
  struct Step {
    size_t at;
    Table* table;
    size_t block;
    bool possible;
  };
  Step steps[TOGETHER];
  uint32_t left[TOGETHER];  // whose key no table has been found to have
  size_t open = 0;
  for (size_t at = 0; at < count; at++)
    if (lookups[at].seen == Seen::Nothing) left[open++] = static_cast<uint32_t>(at);
  for (const Run& run : runs_) {
    if (!open) return;
    size_t asked = 0;
    for (size_t i = 0; i < open; i++) {
      Table* table = run.find(lookups[left[i]].key);
      if (!table) continue;
      table->prefetch_filter(lookups[left[i]].hash);
      steps[asked++] = {left[i], table, 0, false};
    }
    for (size_t i = 0; i < asked; i++) {
      Step& step = steps[i];
      const Lookup& one = lookups[step.at];
      step.possible = step.table->may_have(one.key, one.hash, step.block);
      if (step.possible) step.table->prefetch_slot(step.block);
    }
    for (size_t i = 0; i < asked; i++)
      if (steps[i].possible) steps[i].table->prefetch_block(steps[i].block);
    size_t decided = 0;
    for (size_t i = 0; i < asked; i++) {
      const Step& step = steps[i];
      const Slice key = lookups[step.at].key;
      const bool has = step.possible && step.table->get_from(step.block, key, found[step.at]);
      if (has) present[step.at] = found[step.at].kind != Kind::Tombstone;
      // Its ranges hide what is older, not its own entry of the key.
      if (has || step.table->covers(key)) steps[decided++].at = step.at;
    }
    // Both ascend.
    size_t kept = 0;
    for (size_t i = 0, next = 0; i < open; i++) {
      if (next < decided && steps[next].at == left[i]) next++;
      else left[kept++] = left[i];
    }
    open = kept;
  }
}

ValueFile& Reads::values_of(const Reference& reference) const {
  const auto at = std::lower_bound(
      values_.begin(), values_.end(), reference.file,
      [](const ValueFile* left, uint64_t number) { return left->number() < number; });
  if (at == values_.end() || (*at)->number() != reference.file) {
    std::string name = std::to_string(reference.file);
    name.insert(0, name.size() < 6 ? 6 - name.size() : 0, '0');
    throw Corrupt(name + ".val", reference.offset, "a table refers to it; it is missing");
  }
  (*at)->verify_bounds(reference);
  return **at;
}

}  // namespace murmur
