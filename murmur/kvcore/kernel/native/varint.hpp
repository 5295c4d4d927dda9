/* Varints: LEB128, seven bits a byte, the lowest first. 300 is ac 02. */
#pragma once

#include "common.hpp"

namespace murmur {

inline size_t varint_size(uint64_t number) {
  size_t size = 1;
  while (number > 127) number >>= 7, size++;
  return size;
}

inline uint8_t* put_varint(uint8_t* to, uint64_t number) {
  for (; number > 127; number >>= 7) *to++ = static_cast<uint8_t>(number | 128);
  *to++ = static_cast<uint8_t>(number);
  return to;
}

inline uint8_t* put_bytes(uint8_t* to, Slice bytes) {
  if (bytes.size) std::memcpy(to, bytes.data, bytes.size);
  return to + bytes.size;
}

}  // namespace murmur
