#include "blake2b.hpp"

#include <cstring>

namespace murmur {

namespace {

constexpr size_t BLOCK = 128;
constexpr int ROUNDS = 12;

constexpr uint64_t IV[8] = {
    0x6a09e667f3bcc908, 0xbb67ae8584caa73b, 0x3c6ef372fe94f82b, 0xa54ff53a5f1d36f1,
    0x510e527fade682d1, 0x9b05688c2b3e6c1f, 0x1f83d9abfb41bd6b, 0x5be0cd19137e2179,
};

constexpr uint8_t SIGMA[10][16] = {
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
    {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
    {11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4},
    {7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8},
    {9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13},
    {2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9},
    {12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11},
    {13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10},
    {6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5},
    {10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0},
};

inline uint64_t rotate(uint64_t word, int bits) { return word >> bits | word << (64 - bits); }

inline void mix(uint64_t* v, int a, int b, int c, int d, uint64_t x, uint64_t y) {
  v[a] += v[b] + x;
  v[d] = rotate(v[d] ^ v[a], 32);
  v[c] += v[d];
  v[b] = rotate(v[b] ^ v[c], 24);
  v[a] += v[b] + y;
  v[d] = rotate(v[d] ^ v[a], 16);
  v[c] += v[d];
  v[b] = rotate(v[b] ^ v[c], 63);
}

void compress(uint64_t* state, const uint8_t* block, uint64_t count, bool last) {
  uint64_t v[16], m[16];
  std::memcpy(m, block, BLOCK);  // little-endian, as common.hpp demands
  for (int at = 0; at < 8; at++) v[at] = state[at], v[at + 8] = IV[at];
  v[12] ^= count;
  if (last) v[14] = ~v[14];
#if defined(__GNUC__)
#pragma GCC unroll 12
#endif
  for (int round = 0; round < ROUNDS; round++) {
    const uint8_t* s = SIGMA[round % 10];
    mix(v, 0, 4, 8, 12, m[s[0]], m[s[1]]);
    mix(v, 1, 5, 9, 13, m[s[2]], m[s[3]]);
    mix(v, 2, 6, 10, 14, m[s[4]], m[s[5]]);
    mix(v, 3, 7, 11, 15, m[s[6]], m[s[7]]);
    mix(v, 0, 5, 10, 15, m[s[8]], m[s[9]]);
    mix(v, 1, 6, 11, 12, m[s[10]], m[s[11]]);
    mix(v, 2, 7, 8, 13, m[s[12]], m[s[13]]);
    mix(v, 3, 4, 9, 14, m[s[14]], m[s[15]]);
  }
  for (int at = 0; at < 8; at++) state[at] ^= v[at] ^ v[at + 8];
}

}  // namespace

void blake2b(const uint8_t* data, size_t size, uint8_t out[DIGEST_SIZE]) {
  uint64_t state[8];
  std::memcpy(state, IV, sizeof state);
  state[0] ^= 0x01010000 ^ DIGEST_SIZE;
  uint64_t count = 0;
  while (size > BLOCK) {  // the last block is compressed as such, also when it is full
    count += BLOCK;
    compress(state, data, count, false);
    data += BLOCK;
    size -= BLOCK;
  }
  uint8_t block[BLOCK] = {};
  if (size) std::memcpy(block, data, size);
  compress(state, block, count + size, true);
  std::memcpy(out, state, DIGEST_SIZE);
}

}  // namespace murmur
