/* fuzz_block.cpp: any bytes as a block; see standalone.hpp.
 *
 * What can be parsed is read in every way, by number, by searching for its own keys, and with the
 * offsets in memory of exactly the size that was asked for.
 */
#include "block.hpp"
#include "standalone.hpp"

using namespace murmur;

namespace {

void look(Slice block, bool heads) {
  try {
    Buffer memory(BlockView::memory_for(block, heads));
    const BlockView view = BlockView::parse(block, memory.data(), heads);
    ByteString scratch;
    uint64_t seen = 0;
    for (uint32_t at = 0; at < view.count(); at++) {
      const Slice key = view.key(at, scratch), value = view.value(at);
      for (size_t byte = 0; byte < value.size; byte++) seen += value[byte];
      if (!view.equals(at, key) || view.compare(at, key)) std::abort();
      if (view.lower_bound(key) > view.count()) std::abort();
      if (view.kind(at) == Kind::Reference) seen += Reference::decode(value).length;
    }
    for (const char* key : {"", "k", "key00010", "z"})
      if (view.lower_bound(Slice(key, std::strlen(key))) > view.count()) std::abort();
    volatile uint64_t all = seen;
    (void)all;
  } catch (const Malformed&) {
  }
}

std::string block_of(int count, int step, const char* prefix, size_t value_bytes) {
  BlockBuilder builder;
  for (int at = 0; at < count; at++) {
    const std::string digits = std::to_string(100000 + at * step);
    const std::string key = prefix + digits;
    const Kind kind = at % 7 == 3 ? Kind::Tombstone : at % 7 == 5 ? Kind::Reference : Kind::Put;
    const size_t size = kind == Kind::Put         ? value_bytes
                        : kind == Kind::Reference ? REFERENCE_BYTES
                                                  : 0;
    builder.add(key, kind, std::string(size, 'v'));
  }
  ByteString out;
  builder.finish(out);
  return out.slice().string();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  look({data, size}, true);
  look({data, size}, false);
  return 0;
}

std::vector<std::string> seeds() {
  return {block_of(0, 1, "", 0), block_of(1, 1, "key", 10), block_of(40, 3, "key", 20),
          block_of(17, 1, "", 300), block_of(3, 1, std::string(300, 'p').c_str(), 70000)};
}
