/* fuzz_values.cpp: any bytes as a value file, and any reference to it; see standalone.hpp.
 *
 *     input := reference, 24 bytes | file
 */
#include "crc32.hpp"
#include "memory_files.hpp"
#include "standalone.hpp"
#include "table.hpp"
#include "writer.hpp"

using namespace murmur;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < REFERENCE_BYTES) return 0;
  const Slice file = Slice(data, size).after(REFERENCE_BYTES);
  ValueFile values(std::make_unique<MemoryReadFile>(file), 3, file.size);
  values.check();
  const Reference reference = Reference::decode({data, REFERENCE_BYTES});
  try {
    values.verify_bounds(reference);
    Buffer value(reference.length);
    values.read(reference, value.data());
    if (crc32(value.slice()) != reference.crc) std::abort();
  } catch (const Corrupt&) {
  }
  return 0;
}

std::vector<std::string> seeds() {
  std::string file;
  ValueWriter writer(std::make_unique<MemoryAppendFile>(&file), 3);
  std::vector<std::string> all;
  for (size_t length : {size_t{0}, size_t{5}, size_t{300}}) {
    uint8_t reference[REFERENCE_BYTES];
    writer.add(std::string(length, 'v')).encode(reference);
    all.emplace_back(reinterpret_cast<char*>(reference), sizeof reference);
  }
  writer.finish();
  for (std::string& seed : all) seed += file;
  return all;
}
