/* BLAKE2b with a digest of 16 bytes and no key, as hashlib.blake2b(data, digest_size=16).
 *
 *   ""     ->  cae66941d9efbd404e4d88758ea67670
 *   "abc"  ->  cf4ab791c62b8d2b2109c90275287816
 *
 * RFC 7693 (Saarinen and Aumasson, 2015).
 */
#pragma once

#include <cstddef>
#include <cstdint>

namespace murmur {

constexpr size_t DIGEST_SIZE = 16;

void blake2b(const uint8_t* data, size_t size, uint8_t out[DIGEST_SIZE]);

}  // namespace murmur
