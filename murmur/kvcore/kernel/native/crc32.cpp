#include "crc32.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__ARM_FEATURE_CRC32)
#include <arm_acle.h>
#endif

namespace murmur {

namespace {

constexpr uint32_t POLYNOMIAL = 0xedb88320;

struct Tables {
  uint32_t of[8][256];

  constexpr Tables() : of() {
    for (uint32_t byte = 0; byte < 256; byte++) {
      uint32_t crc = byte;
      for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? POLYNOMIAL : 0);
      of[0][byte] = crc;
    }
    for (int table = 1; table < 8; table++)
      for (uint32_t byte = 0; byte < 256; byte++) {
        const uint32_t crc = of[table - 1][byte];
        of[table][byte] = crc >> 8 ^ of[0][crc & 255];
      }
  }
};
constexpr Tables TABLES;

/* Eight bytes a step; `crc` comes and goes inverted. */
uint32_t by_tables(uint32_t crc, const uint8_t* data, size_t size) {
#if !defined(__x86_64__) && defined(__ARM_FEATURE_CRC32)
  for (; size >= 8; data += 8, size -= 8) crc = __crc32d(crc, load<uint64_t>(data));
  for (; size; data++, size--) crc = __crc32b(crc, *data);
  return crc;
#else
  const auto& of = TABLES.of;
  for (; size >= 8; data += 8, size -= 8) {
    const uint32_t low = load<uint32_t>(data) ^ crc, high = load<uint32_t>(data + 4);
    crc = of[7][low & 255] ^ of[6][low >> 8 & 255] ^ of[5][low >> 16 & 255] ^ of[4][low >> 24] ^
          of[3][high & 255] ^ of[2][high >> 8 & 255] ^ of[1][high >> 16 & 255] ^ of[0][high >> 24];
  }
  for (; size; data++, size--) crc = crc >> 8 ^ of[0][(crc ^ *data) & 255];
  return crc;
#endif
}

#if defined(__x86_64__)

#define FOLDING __attribute__((target("pclmul,sse4.1")))

FOLDING inline __m128i at(const uint8_t* data, int lane) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(data) + lane);
}

/* Moves a lane forward by the distance that the constants stand for, onto `next`. */
FOLDING inline __m128i fold(__m128i lane, __m128i constants, __m128i next) {
  const __m128i low = _mm_clmulepi64_si128(lane, constants, 0x00);
  const __m128i high = _mm_clmulepi64_si128(lane, constants, 0x11);
  return _mm_xor_si128(_mm_xor_si128(low, high), next);
}

/* Folds four lanes at once, then to one, then Barrett's reduction: the constants and their names
 * are those of the paper. The size is a multiple of 16, and at least 64. */
FOLDING uint32_t by_folding(uint32_t crc, const uint8_t* data, size_t size) {
  const __m128i k1k2 = _mm_set_epi64x(0x01c6e41596, 0x0154442bd4);
  const __m128i k3k4 = _mm_set_epi64x(0x00ccaa009e, 0x01751997d0);
  const __m128i k5 = _mm_set_epi64x(0, 0x0163cd6124);
  const __m128i polynomial = _mm_set_epi64x(0x01f7011641, 0x01db710641);
  const __m128i mask = _mm_setr_epi32(~0, 0, ~0, 0);

  __m128i x1 = _mm_xor_si128(at(data, 0), _mm_cvtsi32_si128(static_cast<int>(crc)));
  __m128i x2 = at(data, 1), x3 = at(data, 2), x4 = at(data, 3);
  for (data += 64, size -= 64; size >= 64; data += 64, size -= 64) {
    x1 = fold(x1, k1k2, at(data, 0));
    x2 = fold(x2, k1k2, at(data, 1));
    x3 = fold(x3, k1k2, at(data, 2));
    x4 = fold(x4, k1k2, at(data, 3));
  }
  x1 = fold(x1, k3k4, x2);
  x1 = fold(x1, k3k4, x3);
  x1 = fold(x1, k3k4, x4);
  for (; size >= 16; data += 16, size -= 16) x1 = fold(x1, k3k4, at(data, 0));

  x1 = _mm_xor_si128(_mm_srli_si128(x1, 8), _mm_clmulepi64_si128(x1, k3k4, 0x10));
  x1 = _mm_xor_si128(_mm_srli_si128(x1, 4),
                     _mm_clmulepi64_si128(_mm_and_si128(x1, mask), k5, 0x00));
  x2 = _mm_clmulepi64_si128(_mm_and_si128(x1, mask), polynomial, 0x10);
  x2 = _mm_clmulepi64_si128(_mm_and_si128(x2, mask), polynomial, 0x00);
  return static_cast<uint32_t>(_mm_extract_epi32(_mm_xor_si128(x1, x2), 1));
}

const bool FOLDS = __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1");

#endif

}  // namespace

uint32_t crc32(uint32_t seed, const void* bytes, size_t size) {
  const uint8_t* data = static_cast<const uint8_t*>(bytes);
  uint32_t crc = ~seed;
#if defined(__x86_64__)
  if (size >= 64 && FOLDS) {
    const size_t folded = size & ~size_t{15};
    crc = by_folding(crc, data, folded);
    data += folded;
    size -= folded;
  }
#endif
  return ~by_tables(crc, data, size);
}

}  // namespace murmur
