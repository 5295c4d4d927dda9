/* msgpack.hpp: reading the msgpack of cells in place, without copying and never beyond its end.
 *
 * An *atom* is what msgpack writes in one piece: nil, a boolean, a number, text or bytes. What the
 * first byte of an atom says of it stands in two tables:
 *
 *     CLASSES[0xce]  INT        a number of 32 bits
 *     EXTENTS[0xce]  5          its bytes, the first one included
 *     EXTENTS[0xd9]  LENGTH|1   text whose length is in the next byte
 *     EXTENTS[0x93]  0          an array: not an atom
 *
 * `skip` alone looks at bounds: a pointer that it has passed points to a whole atom, which the
 * other functions read unchecked. Invariant of all that takes `end`: no byte at or after it is read.
 *
 * Source: the MessagePack specification, github.com/msgpack/msgpack, spec.md.
 */
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace murmur::msgpack {

enum Class : uint8_t { NIL = 1, BOOL = 2, INT = 4, FLOAT = 8, TEXT = 16, BINARY = 32 };

constexpr uint8_t LENGTH = 0x80;  // in EXTENTS: so many bytes of length follow the first

constexpr std::array<uint8_t, 256> make_classes() {
  std::array<uint8_t, 256> table{};
  for (int byte = 0x00; byte <= 0x7f; ++byte) table[byte] = INT;
  for (int byte = 0xa0; byte <= 0xbf; ++byte) table[byte] = TEXT;
  table[0xc0] = NIL;
  table[0xc2] = table[0xc3] = BOOL;
  table[0xc4] = table[0xc5] = table[0xc6] = BINARY;
  table[0xca] = table[0xcb] = FLOAT;
  for (int byte = 0xcc; byte <= 0xd3; ++byte) table[byte] = INT;
  table[0xd9] = table[0xda] = table[0xdb] = TEXT;
  for (int byte = 0xe0; byte <= 0xff; ++byte) table[byte] = INT;
  return table;
}

constexpr std::array<uint8_t, 256> make_extents() {
  std::array<uint8_t, 256> table{};
  for (int byte = 0x00; byte <= 0x7f; ++byte) table[byte] = 1;
  for (int byte = 0xa0; byte <= 0xbf; ++byte) table[byte] = static_cast<uint8_t>(byte - 0xa0 + 1);
  table[0xc0] = table[0xc2] = table[0xc3] = 1;
  table[0xc4] = table[0xd9] = LENGTH | 1;
  table[0xc5] = table[0xda] = LENGTH | 2;
  table[0xc6] = table[0xdb] = LENGTH | 4;
  table[0xcc] = table[0xd0] = 2;
  table[0xcd] = table[0xd1] = 3;
  table[0xca] = table[0xce] = table[0xd2] = 5;
  table[0xcb] = table[0xcf] = table[0xd3] = 9;
  for (int byte = 0xe0; byte <= 0xff; ++byte) table[byte] = 1;
  return table;
}

inline constexpr std::array<uint8_t, 256> CLASSES = make_classes();
inline constexpr std::array<uint8_t, 256> EXTENTS = make_extents();

inline uint16_t load16(const uint8_t* at) {
  uint16_t value;
  std::memcpy(&value, at, sizeof value);
  return __builtin_bswap16(value);
}

inline uint32_t load32(const uint8_t* at) {
  uint32_t value;
  std::memcpy(&value, at, sizeof value);
  return __builtin_bswap32(value);
}

inline uint64_t load64(const uint8_t* at) {
  uint64_t value;
  std::memcpy(&value, at, sizeof value);
  return __builtin_bswap64(value);
}

inline size_t load_length(const uint8_t* at, size_t bytes) {
  return bytes == 1 ? *at : bytes == 2 ? load16(at) : load32(at);
}

// The byte after the atom at `at`; nullptr when no whole atom is there.
inline const uint8_t* skip(const uint8_t* at, const uint8_t* end) {
  if (at >= end) return nullptr;
  const size_t left = static_cast<size_t>(end - at);
  size_t extent = EXTENTS[*at];
  if (extent & LENGTH) {
    const size_t bytes = extent & ~size_t{LENGTH};
    if (left < 1 + bytes) return nullptr;
    extent = 1 + bytes + load_length(at + 1, bytes);
  } else if (extent == 0) {
    return nullptr;
  }
  return left < extent ? nullptr : at + extent;
}

// The count of an array or a map; `at` moves behind it. False when there is none.
inline bool read_count(const uint8_t*& at, const uint8_t* end, uint8_t fixed, uint8_t mask,
                       uint8_t wide, uint32_t& count) {
  if (at >= end) return false;
  const uint8_t first = *at;
  const size_t left = static_cast<size_t>(end - at);
  if ((first & ~mask) == fixed) {
    count = first & mask;
    at += 1;
  } else if (first == wide && left >= 3) {
    count = load16(at + 1);
    at += 3;
  } else if (first == wide + 1 && left >= 5) {
    count = load32(at + 1);
    at += 5;
  } else {
    return false;
  }
  return true;
}

inline bool read_array(const uint8_t*& at, const uint8_t* end, uint32_t& count) {
  return read_count(at, end, 0x90, 0x0f, 0xdc, count);
}

inline bool read_map(const uint8_t*& at, const uint8_t* end, uint32_t& count) {
  return read_count(at, end, 0x80, 0x0f, 0xde, count);
}

// The integer in an atom of class INT; false when it is above the largest of 64 bits and a sign.
inline bool read_int(const uint8_t* at, int64_t& value) {
  const uint8_t first = *at;
  switch (first) {
    case 0xcc: value = at[1]; return true;
    case 0xcd: value = load16(at + 1); return true;
    case 0xce: value = load32(at + 1); return true;
    case 0xcf: {
      const uint64_t wide = load64(at + 1);
      value = static_cast<int64_t>(wide);
      return wide <= INT64_MAX;
    }
    case 0xd0: value = static_cast<int8_t>(at[1]); return true;
    case 0xd1: value = static_cast<int16_t>(load16(at + 1)); return true;
    case 0xd2: value = static_cast<int32_t>(load32(at + 1)); return true;
    case 0xd3: value = static_cast<int64_t>(load64(at + 1)); return true;
    default: value = static_cast<int8_t>(first); return true;  // one byte, sign and all
  }
}

// The number in an atom of class FLOAT.
inline double read_float(const uint8_t* at) {
  if (*at == 0xca) {
    const uint32_t bits = load32(at + 1);
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return static_cast<double>(value);
  }
  const uint64_t bits = load64(at + 1);
  double value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// Where the content of an atom of class TEXT or BINARY begins, and its length.
inline const uint8_t* read_bytes(const uint8_t* at, size_t& length) {
  const uint8_t extent = EXTENTS[*at];
  if (!(extent & LENGTH)) {
    length = extent - 1u;
    return at + 1;
  }
  const size_t bytes = extent & ~LENGTH & 0xff;
  length = load_length(at + 1, bytes);
  return at + 1 + bytes;
}

}  // namespace murmur::msgpack
