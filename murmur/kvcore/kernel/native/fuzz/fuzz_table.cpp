/* fuzz_table.cpp: any bytes as a table; see standalone.hpp.
 *
 * The first byte says whether checksums are made right first: so damage gets past them, to footer,
 * handles, index, ranges and blocks. The manifest agrees with whatever the footer says.
 */
#include <algorithm>

#include "crc32.hpp"
#include "memory_files.hpp"
#include "merge.hpp"
#include "reader.hpp"
#include "stand_ins.hpp"
#include "standalone.hpp"
#include "table.hpp"
#include "writer.hpp"

using namespace murmur;

namespace {

class Nowhere final : public MergeOutput {
 public:
  std::unique_ptr<AppendFile> create(uint64_t& number) override {
    number = 9;
    return std::make_unique<MemoryAppendFile>(&bytes_);
  }
  std::unique_ptr<AppendFile> create_values(uint64_t& number) override { return create(number); }
  void pause(uint64_t) override {}

 private:
  std::string bytes_;
};

/* Makes the checksum in a handle that of the bytes that it names, if they are there. */
void seal(std::string& file, size_t handle_at) {
  uint8_t* bytes = reinterpret_cast<uint8_t*>(&file[0]);
  const Handle handle = Handle::decode(bytes + handle_at);
  if (handle.offset > file.size() || handle.length > file.size() - handle.offset) return;
  store(bytes + handle_at + 12, crc32(0, bytes + handle.offset, handle.length));
}

/* Seals from the blocks outwards: data blocks, sections, footer. */
void seal_all(std::string& file) {
  if (file.size() < FOOTER_BYTES) return;
  uint8_t* bytes = reinterpret_cast<uint8_t*>(&file[0]);
  const size_t end = file.size() - FOOTER_BYTES;
  const Handle index = Handle::decode(bytes + end + 32 + 3 * HANDLE_BYTES);
  if (index.length > 1 && index.offset <= end && index.length <= end - index.offset) {
    try {
      Vector<uint64_t> memory;
      const BlockView view =
          BlockView::parse({bytes + index.offset + 1, index.length - 1}, memory, false);
      for (uint32_t at = 0; at < view.count(); at++)
        if (view.value(at).size == HANDLE_BYTES)
          seal(file, static_cast<size_t>(view.value(at).data - bytes));
    } catch (const Malformed&) {
    }
  }
  for (size_t part = 0; part < 4; part++) seal(file, end + 32 + HANDLE_BYTES * part);
  store(bytes + end + 96, crc32(0, bytes, end));
  store(bytes + end + 100, crc32(0, bytes + end, 100));
}

template <class F>
void attempt(F&& work) {
  try {
    work();
  } catch (const Corrupt&) {
  }
}

std::string table_of(int count, uint32_t block_bytes, bool ranges, uint8_t codec = codec::NONE) {
  std::string file;
  TableOptions options;
  options.codec = codec;
  options.block_bytes = block_bytes;
  TableWriter writer(std::make_unique<MemoryAppendFile>(&file), 7, options);
  for (int at = 0; at < count; at++) {
    const Kind kind = at % 7 == 3 ? Kind::Tombstone : at % 7 == 5 ? Kind::Reference : Kind::Put;
    const size_t size = kind == Kind::Put ? 12 : kind == Kind::Reference ? REFERENCE_BYTES : 0;
    writer.add("key" + std::to_string(100000 + at), kind, std::string(size, '\1'));
  }
  if (ranges) {
    writer.add_range(std::string("a"), std::string("b"));
    writer.add_range(std::string("key100003"), std::string("key100009"));
  }
  writer.finish(5);
  return file;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 1 || size > (1 << 20)) return 0;
  std::string file(reinterpret_cast<const char*>(data) + 1, size - 1);
  if (data[0] & 1) seal_all(file);
  const uint8_t* bytes = reinterpret_cast<const uint8_t*>(file.data());
  TableInfo info;
  info.size = file.size();
  if (file.size() >= FOOTER_BYTES) {
    const uint8_t* footer = bytes + file.size() - FOOTER_BYTES;
    info.number = load<uint64_t>(footer);
    info.entries = load<uint64_t>(footer + 8);
    info.tombstones = load<uint64_t>(footer + 16);
    info.ranges = load<uint64_t>(footer + 24);
    info.checksum = load<uint32_t>(footer + 100);
  }
  info.last = "zzz";
  const auto cache = std::make_shared<BlockCache>(data[0] & 2 ? 500 : 1 << 20);
  const auto table = std::make_shared<Table>(
      std::make_unique<MemoryReadFile>(Slice(bytes, file.size())), info, cache);
  for (int at = 0; at < 3; at++) {
    const std::string key = "key" + std::to_string(100000 + 11 * at);
    attempt([&] {
      Found found;
      if (table->get(key, crc32(Slice(key)), found)) found.value.string();
    });
    attempt([&] { table->covers(key); });
    attempt([&] {
      TableIterator entries(*table);
      size_t left = 100;
      for (entries.seek(key); entries.valid() && left; entries.next(), left--)
        entries.key().string();
    });
    attempt([&] {
      TableIterator entries(*table);
      size_t left = 100;
      for (entries.seek_before(key); entries.valid() && left; entries.prev(), left--)
        entries.value().string();
    });
  }
  attempt([&] {
    TableIterator entries(*table);
    for (entries.seek_last(); entries.valid(); entries.prev()) entries.key().string();
  });
  table->check();
  attempt([&] {
    Nowhere output;
    const TableSource source({table});
    MergeOptions options;
    options.table.table_bytes = 200;
    write_tables({&source, &source}, options, output);
  });
  return 0;
}

std::vector<std::string> seeds() {
  std::vector<std::string> all;
  for (const char* flags : {"\1", "\3", "\2"})
    for (const std::string& file : {table_of(50, 100, true), table_of(3, 4096, false),
                                    table_of(0, 4096, true), table_of(200, 300, true, codec::ZSTD)})
      all.push_back(flags + file);
  return all;
}
