/* How blocks are stored: as they are, or compressed.
 *
 *   stored := codec u8 | block                         codec 0
 *           | codec u8 | raw length u32 | compressed   codec 1 (an LZ4 block), 2 (a zstd frame)
 *
 * A block that does not shrink by an eighth is stored as it is. The functions of LZ4 and zstd come
 * from the binding, which asks for them when they are first needed: the core links to neither.
 *
 * Invariant: `unpack` allocates no more than the stored size allows (256 times it, and 64 KiB), and
 * gives back what `pack` got; anything else throws Malformed.
 */
#pragma once

#include "common.hpp"

namespace murmur {

namespace codec {

enum : uint8_t { NONE = 0, LZ4 = 1, ZSTD = 2 };  // on disk: never renumber, never reuse

struct Functions {
  int (*lz4_bound)(int size) = nullptr;
  int (*lz4_compress)(const char* from, char* to, int size, int capacity) = nullptr;
  int (*lz4_decompress)(const char* from, char* to, int size, int capacity) = nullptr;
  size_t (*zstd_bound)(size_t size) = nullptr;
  size_t (*zstd_compress)(void* to, size_t room, const void* from, size_t size, int) = nullptr;
  size_t (*zstd_decompress)(void* to, size_t room, const void* from, size_t size) = nullptr;
  unsigned (*zstd_is_error)(size_t result) = nullptr;
};

/* For the binding: `load` fills in the functions of a codec with `offer`, or returns -1, its error
 * waiting with the binding. */
void set_loader(int (*load)(uint8_t codec));
void offer(uint8_t codec, const Functions& functions);

/* Appends the stored form of a block. */
void pack(uint8_t codec, int level, Slice block, ByteString& out);

/* The block of a stored one: in `bytes`, from `skip` on. `stored` is used up where it can be. */
Buffer unpack(Buffer stored, size_t& skip);
/* The same for borrowed bytes: the block within them, or within `scratch`. */
Slice unpack(Slice stored, ByteString& scratch);

}  // namespace codec

}  // namespace murmur
