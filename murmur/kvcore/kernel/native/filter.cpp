#include "filter.hpp"

#include <algorithm>
#include <cmath>

namespace murmur {

namespace filter {

namespace {

constexpr uint8_t MOST_PROBES = 30;

uint8_t probes_for(uint32_t bits_per_key) {
  if (bits_per_key == 10) return 5;  // measured to be as good as 7, and sooner done
  const double best = std::nearbyint(std::min(bits_per_key, 1000u) * 0.69);
  return static_cast<uint8_t>(std::max(1.0, std::min<double>(MOST_PROBES, best)));
}

}  // namespace

void build(const Vector<uint32_t>& hashes, uint32_t bits_per_key, ByteString& out) {
  if (!bits_per_key) return;
  const uint64_t bits = std::max<uint64_t>(64, hashes.size() * uint64_t{bits_per_key});
  const uint64_t size = (bits + 7) & ~uint64_t{7};
  uint8_t* filter = out.grow(1 + size / 8);
  const uint8_t probes = probes_for(bits_per_key);
  *filter++ = probes;
  std::memset(filter, 0, size / 8);
  for (const uint32_t hash : hashes) {
    const uint64_t mixed = hash * MIX;
    uint64_t at = mixed % size;
    const uint64_t step = (mixed >> 40 | 1) % size;
    for (uint8_t probe = probes; probe; probe--) {
      filter[at >> 3] |= static_cast<uint8_t>(128 >> (at & 7));
      at += step;
      if (at >= size) at -= size;
    }
  }
}

void verify(Slice filter) {
  if (filter.size < 2 || filter[0] == 0 || filter[0] > MOST_PROBES)
    throw Malformed("a filter has no bits, or asks for too many of them");
}

}  // namespace filter

}  // namespace murmur
