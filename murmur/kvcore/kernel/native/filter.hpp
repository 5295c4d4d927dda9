/* Filters: "is this key perhaps here?", from about ten bits a key. A Bloom filter.
 *
 *   filter    := probes u8 | bits, position p is bit 7 - p % 8 of byte p // 8
 *   position  := hash * MIX mod 2^64 = x;  first x mod size, each further one (x >> 40 | 1) later
 *   probes    := max(1, min(30, round(0.69 * bits per key))), but 5 at 10 bits
 *
 * kernel/pure/filter.py explains it. The hash is the CRC-32 of the key.
 *
 * Invariant: no false negatives.
 */
#pragma once

#include "common.hpp"

namespace murmur {

namespace filter {

constexpr uint64_t MIX = 0x9E3779B97F4A7C15;  // on disk: 2^64 divided by the golden ratio

/* The filter of keys with these hashes; nothing for 0 bits a key. */
void build(const Vector<uint32_t>& hashes, uint32_t bits_per_key, ByteString& out);

/* Throws Malformed unless the bytes can be a filter. */
void verify(Slice filter);

/* Whether a key with this hash can be among them. The filter was verified. */
inline bool may_contain(Slice filter, uint32_t hash) {
  const uint64_t size = (filter.size - 1) * 8;
  const uint64_t mixed = hash * MIX;
  uint64_t at = mixed % size, step = mixed >> 40 | 1;
  if (step >= size) step %= size;
  for (uint8_t probe = filter[0]; probe; probe--) {
    if (!(filter[1 + (at >> 3)] & (128 >> (at & 7)))) return false;
    at += step;
    if (at >= size) at -= size;
  }
  return true;
}

/* Asks for the byte that is looked at first: if the key is absent, mostly the only one. */
inline void prefetch(Slice filter, uint32_t hash) {
  __builtin_prefetch(filter.data + 1 + (hash * MIX % ((filter.size - 1) * 8) >> 3));
}

}  // namespace filter

}  // namespace murmur
