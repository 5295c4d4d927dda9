#include "codec.hpp"

#include <atomic>

namespace murmur {

namespace codec {

namespace {

constexpr size_t LARGEST_BLOCK = size_t{1} << 30;
constexpr size_t LARGEST_RATIO = 256;
constexpr size_t ALWAYS_ALLOWED = 64 << 10;

constexpr size_t RAW_LENGTH_BYTES = 4;

int (*loader)(uint8_t codec) = nullptr;
Functions functions;
std::atomic<bool> ready[3];

const Functions& functions_of(uint8_t codec) {
  if (!ready[codec].load(std::memory_order_acquire)) {
    if (!loader) throw InvalidArgument("no compression library is at hand");
    if (loader(codec)) throw Raised();
  }
  return functions;
}

size_t most_raw(size_t stored) {
  const size_t most = LARGEST_RATIO * stored + ALWAYS_ALLOWED;
  return most < LARGEST_BLOCK ? most : LARGEST_BLOCK;
}

/* Compressed bytes into `to`; 0 if that failed. */
size_t compress(uint8_t codec, int level, Slice block, uint8_t* to, size_t capacity) {
  const Functions& of = functions_of(codec);
  if (codec == LZ4) {
    const int size = of.lz4_compress(reinterpret_cast<const char*>(block.data),
                                     reinterpret_cast<char*>(to), static_cast<int>(block.size),
                                     static_cast<int>(capacity));
    return size > 0 ? static_cast<size_t>(size) : 0;
  }
  const size_t size = of.zstd_compress(to, capacity, block.data, block.size, level);
  return of.zstd_is_error(size) ? 0 : size;
}

size_t raw_length_of(Slice stored) {
  if (stored[0] != LZ4 && stored[0] != ZSTD) throw Malformed("a block is of an unknown codec");
  if (stored.size < 1 + RAW_LENGTH_BYTES) throw Malformed("a compressed block has no length");
  const size_t raw = load<uint32_t>(stored.data + 1);
  if (raw > most_raw(stored.size)) throw Malformed("a compressed block claims to be far too long");
  return raw;
}

void decompress(Slice stored, uint8_t* to, size_t raw) {
  const Functions& of = functions_of(stored[0]);
  const Slice body = stored.after(1 + RAW_LENGTH_BYTES);
  bool whole;
  if (stored[0] == LZ4) {
    if (body.size > INT32_MAX) throw Malformed("a compressed block is too long");
    whole = of.lz4_decompress(reinterpret_cast<const char*>(body.data), reinterpret_cast<char*>(to),
                              static_cast<int>(body.size), static_cast<int>(raw)) ==
            static_cast<int>(raw);
  } else {
    const size_t size = of.zstd_decompress(to, raw, body.data, body.size);
    whole = !of.zstd_is_error(size) && size == raw;
  }
  if (!whole) throw Malformed("a compressed block cannot be decompressed");
}

}  // namespace

void set_loader(int (*load)(uint8_t codec)) { loader = load; }

void offer(uint8_t codec, const Functions& offered) {
  if (ready[codec].load(std::memory_order_acquire)) return;  // they may be in use
  if (codec == LZ4) {
    functions.lz4_bound = offered.lz4_bound;
    functions.lz4_compress = offered.lz4_compress;
    functions.lz4_decompress = offered.lz4_decompress;
  } else {
    functions.zstd_bound = offered.zstd_bound;
    functions.zstd_compress = offered.zstd_compress;
    functions.zstd_decompress = offered.zstd_decompress;
    functions.zstd_is_error = offered.zstd_is_error;
  }
  ready[codec].store(true, std::memory_order_release);
}

void pack(uint8_t codec, int level, Slice block, ByteString& out) {
  if (codec != NONE && block.size <= LARGEST_BLOCK) {
    const size_t start = out.size();
    const Functions& of = functions_of(codec);
    const size_t capacity = codec == LZ4
                                ? static_cast<size_t>(of.lz4_bound(static_cast<int>(block.size)))
                                : of.zstd_bound(block.size);
    uint8_t* to = out.grow(1 + RAW_LENGTH_BYTES + capacity);
    const size_t size = compress(codec, level, block, to + 1 + RAW_LENGTH_BYTES, capacity);
    const size_t body = RAW_LENGTH_BYTES + size;
    // What readers would refuse is not written either.
    if (size && 8 * body <= 7 * block.size && block.size <= most_raw(1 + body)) {
      to[0] = codec;
      murmur::store(to + 1, static_cast<uint32_t>(block.size));
      out.truncate(start + 1 + body);
      return;
    }
    out.truncate(start);
  }
  *out.grow(1) = NONE;
  out.append(block);
}

Buffer unpack(Buffer stored, size_t& skip) {
  if (!stored.size()) throw Malformed("a stored block is empty");
  if (stored.data()[0] == NONE) {
    skip = 1;
    return stored;
  }
  skip = 0;
  Buffer raw(raw_length_of(stored.slice()));
  decompress(stored.slice(), raw.data(), raw.size());
  return raw;
}

Slice unpack(Slice stored, ByteString& scratch) {
  if (!stored.size) throw Malformed("a stored block is empty");
  if (stored[0] == NONE) return stored.after(1);
  const size_t raw = raw_length_of(stored);
  scratch.clear();
  decompress(stored, scratch.grow(raw), raw);
  return scratch.slice();
}

}  // namespace codec

}  // namespace murmur
