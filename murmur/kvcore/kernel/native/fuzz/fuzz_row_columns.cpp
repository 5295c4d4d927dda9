/* fuzz_row_columns.cpp: any bytes as columns of an Arrow batch; see standalone.hpp.
 *
 * The first bytes of the input choose forms, widths and rules of two columns, the rest is their
 * buffers. What is encoded of them must be found again by its key.
 */
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "row_columns.hpp"
#include "row_run.hpp"
#include "standalone.hpp"

using namespace murmur;

namespace {

constexpr size_t HEAD = 12;
constexpr uint32_t WIDTHS[] = {0, 1, 2, 4, 8, 16, 256, 300};
constexpr size_t COLUMNS = 2;

BlockPlan plan_of(uint8_t choice) {
  BlockPlan plan;
  plan.fields = {7};
  plan.counters = {9};
  plan.prefix = "\x02\x02t";
  KeyColumn key;
  key.field.kind = choice & 1 ? FieldKind::Text : FieldKind::Integer;
  key.field.width = 8;
  key.field.low = INT64_MIN;
  key.field.high = INT64_MAX;
  if (choice & 2) {
    plan.key_columns = {0};
    plan.keys = {key};
  }
  EntryPlan entry;
  entry.kind = static_cast<EntryKind>(1 + (choice >> 2) % 4);
  entry.prefix = "\x40\x01i";
  entry.columns = {0};
  key.descending = choice & 16;
  entry.keys = {key};
  plan.entries = {entry};
  return plan;
}

ColumnSource source_of(const uint8_t* head, Slice rest) {
  ColumnSource source;
  source.form = static_cast<Form>(head[0] % 11);  // one more than there are
  source.width = WIDTHS[head[1] % 8];
  source.offset = head[2] % 9;
  const size_t first = rest.size ? head[3] % rest.size : 0;
  const size_t second = first + (rest.size - first ? head[4] % (rest.size - first) : 0);
  source.validity = head[1] & 8 ? rest.first(first) : Slice();
  source.offsets = {rest.data + first, second - first};
  source.values = rest.after(second);
  return source;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < HEAD) return 0;
  const Slice rest{data + HEAD, size - HEAD};
  std::vector<ColumnSource> sources;
  std::vector<ColumnRule> rules(COLUMNS);
  for (size_t column = 0; column < COLUMNS; ++column) {
    sources.push_back(source_of(data + 1 + 5 * column, rest));
    rules[column].precision = data[11] % 40;
    rules[column].scale = data[11] % 12;
    rules[column].shortest = data[11] & 64;
    rules[column].longest = data[11] % 5;
    rules[column].nullable = data[11] & 128;
    rules[column].counter = column == 1;
  }
  RowEncoder encoder(plan_of(data[0]));
  const std::string ids(16 * 8, 'x');
  const bool keyed = data[0] & 2;
  try {
    encode_columns(encoder, sources, rules, data[0] >> 6, 4, keyed ? Slice() : Slice(ids));
  } catch (const InvalidArgument&) {
    encoder.drop();
  }
  const std::unique_ptr<RowBlock> block = encoder.finish();
  const RowAuthor author{1, {}, 1};
  ByteString cells, operation, key;
  Vector<Operation> writes;
  block->writes(author, cells, writes);
  block->operation_head(operation);
  if (operation.empty() != !block->count()) std::abort();
  for (size_t row = 0; row < block->count(); ++row) {
    key.clear();
    block->key(row, key);
    const size_t found = block->find(key.slice());
    if (found == NO_ROW || block->rest(found) != block->rest(row)) std::abort();
  }
  if (!block->count()) return 0;
  const LoadedBlocks loaded{{block.get(), author}};
  const RowRun source(loaded);
  const std::unique_ptr<EntryIterator> run = source.entries();
  size_t count = 0;
  for (run->seek_first(); run->valid(); run->next()) count++;
  if (count != block->count()) std::abort();
  for (size_t at = 0; at < block->asked_count(0); ++at) {
    if (block->kind(0) == EntryKind::Claim && block->claim_of(0, block->asked(0, at)) == NO_ROW)
      std::abort();
  }
  return 0;
}

std::vector<std::string> seeds() {
  std::mt19937_64 random(7);
  std::vector<std::string> all;
  for (int each = 0; each < 1000; ++each) {
    std::string input;
    for (size_t at = 0; at < HEAD; ++at) input.push_back(static_cast<char>(random()));
    // Offsets and lengths are mostly small, texts mostly ASCII.
    for (size_t at = random() % 120; at-- > 0;) {
      input.push_back(static_cast<char>(random() % 4 ? random() % 9 * (random() % 2) : random()));
    }
    all.push_back(input);
  }
  return all;
}
