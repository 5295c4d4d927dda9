/* fuzz_stored.cpp: any bytes as a stored block; see standalone.hpp. */
#include "codec.hpp"
#include "stand_ins.hpp"
#include "standalone.hpp"

using namespace murmur;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  ByteString scratch;
  try {
    const Slice block = codec::unpack(Slice(data, size), scratch);
    if (block.size > 256 * size + (64 << 10)) std::abort();
    ByteString all;
    all.append(block);
  } catch (const Malformed&) {
  }
  try {
    Buffer stored(size);
    if (size) std::memcpy(stored.data(), data, size);
    size_t skip = 0;
    const Buffer block = codec::unpack(std::move(stored), skip);
    if (skip > block.size()) std::abort();
  } catch (const Malformed&) {
  }
  return 0;
}

std::vector<std::string> seeds() {
  std::vector<std::string> all;
  for (uint8_t codec : {codec::NONE, codec::LZ4, codec::ZSTD}) {
    ByteString out;
    codec::pack(codec, 3, std::string(5000, 'x'), out);
    all.push_back(out.slice().string());
  }
  all.push_back(std::string("\1\4\0\0\0abcd", 9));
  return all;
}
