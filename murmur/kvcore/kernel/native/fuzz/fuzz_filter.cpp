/* fuzz_filter.cpp: any bytes as a filter; see standalone.hpp. */
#include "filter.hpp"
#include "standalone.hpp"

using namespace murmur;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const Slice bytes(data, size);
  try {
    filter::verify(bytes);
  } catch (const Malformed&) {
    return 0;
  }
  for (uint32_t hash = 1; hash; hash <<= 1) {
    filter::may_contain(bytes, hash);
    filter::may_contain(bytes, ~hash);
  }
  return 0;
}

std::vector<std::string> seeds() {
  std::vector<std::string> all;
  for (uint32_t bits : {1u, 10u, 50u}) {
    Vector<uint32_t> hashes;
    for (uint32_t at = 0; at < 30 * bits; at++) hashes.push_back(at * 2654435761u);
    ByteString out;
    filter::build(hashes, bits, out);
    for (const uint32_t hash : hashes)
      if (!filter::may_contain(out.slice(), hash)) std::abort();
    all.push_back(out.slice().string());
  }
  return all;
}
