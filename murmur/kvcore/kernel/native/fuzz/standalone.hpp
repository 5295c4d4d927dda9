/* A main for a fuzz target where there is no libFuzzer: its seeds, changed at random.
 *
 *     g++ -std=c++17 -g -O1 -fsanitize=address,undefined -I.. fuzz_block.cpp ../[a-z]*.cpp
 *     ./a.out 20 [seed]      for 20 seconds
 *     ./a.out file...        these inputs; FUZZ_KEEP=1 writes each one to `crash` before it runs
 *
 *     clang++ -fsanitize=fuzzer,address,undefined -DLIBFUZZER ...     the same, led by coverage
 *
 * A target defines LLVMFuzzerTestOneInput and `seeds`. Whatever the input is, it must not read or
 * write out of bounds, nor throw anything.
 */
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);
std::vector<std::string> seeds();

#ifndef LIBFUZZER

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <random>

namespace standalone {

using Random = std::mt19937_64;

inline size_t below(Random& random, size_t bound) { return bound ? random() % bound : 0; }

/* A few changes, of the kinds that parsers trip over. */
inline std::string changed(Random& random, const std::vector<std::string>& all) {
  std::string input = all[below(random, all.size())];
  static const uint64_t NUMBERS[] = {0, 1, 2, 4, 15, 16, 17, 127, 128, 255, 256, 65535, 65536,
                                     INT32_MAX, 0x80000000, UINT32_MAX - 1, UINT32_MAX,
                                     INT64_MAX, UINT64_MAX};
  for (size_t changes = 1 + below(random, 4); changes; changes--) {
    const size_t at = below(random, input.size());
    switch (below(random, 7)) {
      case 0:
        if (!input.empty()) input[at] ^= static_cast<char>(1 << below(random, 8));
        break;
      case 1:
        if (!input.empty()) input[at] = static_cast<char>(random());
        break;
      case 2: {
        const uint64_t number = NUMBERS[below(random, std::size(NUMBERS))];
        const size_t bytes = size_t{1} << below(random, 4);
        for (size_t byte = 0; byte < bytes && at + byte < input.size(); byte++)
          input[at + byte] = static_cast<char>(number >> (8 * byte));
        break;
      }
      case 3:
        input.resize(at);
        break;
      case 4:
        input.insert(at, std::string(1 + below(random, 40), static_cast<char>(random())));
        break;
      case 5:
        input.erase(at, 1 + below(random, 40));
        break;
      default: {
        const std::string& other = all[below(random, all.size())];
        const size_t from = below(random, other.size());
        input.insert(at, other.substr(from, below(random, 200)));
      }
    }
  }
  return input;
}

inline void run(const std::string& input) {
  // On its own piece of memory, so that a read beyond it is noticed.
  const std::vector<uint8_t> bytes(input.begin(), input.end());
  LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
}

}  // namespace standalone

int main(int count, char** arguments) {
  const double seconds = count > 1 ? std::atof(arguments[1]) : 5;
  if (count > 1 && seconds == 0) {
    for (int at = 1; at < count; at++) {
      std::ifstream file(arguments[at], std::ios::binary);
      standalone::run({std::istreambuf_iterator<char>(file), {}});
    }
    return 0;
  }
  standalone::Random random(count > 2 ? std::strtoull(arguments[2], nullptr, 10)
                                      : std::random_device()());
  const std::vector<std::string> all = seeds();
  for (const std::string& seed : all) standalone::run(seed);
  using Clock = std::chrono::steady_clock;
  const auto end = Clock::now() + std::chrono::milliseconds(static_cast<int64_t>(1000 * seconds));
  uint64_t rounds = 0;
  for (; rounds % 64 || Clock::now() < end; rounds++) {
    const std::string input = standalone::changed(random, all);
    if (std::getenv("FUZZ_KEEP")) std::ofstream("crash", std::ios::binary) << input;
    standalone::run(input);
  }
  std::printf("%llu inputs\n", static_cast<unsigned long long>(rounds));
  return 0;
}

#endif
