/* Arena: memory that is taken piece by piece and given back all at once.
 *
 *   chunk 0 | 8 KiB: record record node ...      chunks double up to 2 MiB; what is larger than
 *   chunk 1 | 16 KiB: ...                        a quarter of that gets a chunk of its own
 *
 * What was taken never moves, so whoever holds the arena may read it without a lock. `reserve` makes
 * a change of several pieces safe: after it they are there, and nothing can fail half-way.
 *
 * Full chunks are mapped, for the kernel to make each of them one huge page: records lie in the order
 * of their writing, so every read of a key is a page of its own, and finding pages would take a
 * fifth of the time. Some that were given back are kept for the next arena (ChunkPool): clearing
 * fresh memory takes longer than writing to it. Where a thread has time, it has some cleared ahead.
 *
 * A piece has a 32-bit reference, its chunk and its place in it, where a pointer would be too wide:
 *
 *   reference := chunk number << 18 | offset / 8
 *
 * Invariant: pieces are aligned to 8 bytes; a failed allocation changes nothing.
 */
#pragma once

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "common.hpp"

namespace murmur {

/* Chunks for all arenas of the process. It takes no lock: a forked child may use it at any moment. */
class ChunkPool {
 public:
  static constexpr size_t CHUNK_BYTES = size_t{2} << 20;

  // One that was kept, or a fresh one; std::bad_alloc.
  static uint8_t* take() {
    for (std::atomic<uint8_t*>& place : kept_) {
      if (!place.load(std::memory_order_relaxed)) continue;
      if (uint8_t* chunk = place.exchange(nullptr, std::memory_order_acquire)) return chunk;
    }
    return map();
  }

  // Have so many at hand that are cleared already; for a thread beside those that write.
  static void prepare(size_t wanted) noexcept {
#ifdef MADV_POPULATE_WRITE
    for (std::atomic<uint8_t*>& place : kept_)
      if (wanted && place.load(std::memory_order_relaxed)) wanted--;
    while (wanted--) {
      uint8_t* chunk;
      try {
        chunk = map();
      } catch (const std::bad_alloc&) {
        return;  // who writes will hear of it
      }
      madvise(chunk, CHUNK_BYTES, MADV_POPULATE_WRITE);  // only a wish
      if (!keep(chunk)) return;
    }
#else
    (void)wanted;
#endif
  }

  static void give(uint8_t* chunk) noexcept {
#ifdef MADV_FREE
    madvise(chunk, CHUNK_BYTES, MADV_FREE);  // whoever needs memory more may have its content
    keep(chunk);
#else
    munmap(chunk, CHUNK_BYTES);
#endif
  }

 private:
  static constexpr size_t KEPT = 32;  // 64 MiB

  // False if there are enough: then it is given back.
  static bool keep(uint8_t* chunk) noexcept {
    for (std::atomic<uint8_t*>& place : kept_) {
      uint8_t* none = nullptr;
      if (place.compare_exchange_strong(none, chunk, std::memory_order_release,
                                        std::memory_order_relaxed))
        return true;
    }
    munmap(chunk, CHUNK_BYTES);
    return false;
  }

  // Huge pages begin at multiples of their size: of twice as much, what is around one is given back.
  static uint8_t* map() {
    void* mapped = mmap(nullptr, 2 * CHUNK_BYTES, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) throw std::bad_alloc();
    uint8_t* start = static_cast<uint8_t*>(mapped);
    const size_t before = -reinterpret_cast<uintptr_t>(start) & (CHUNK_BYTES - 1);
    if (before) munmap(start, before);
    munmap(start + before + CHUNK_BYTES, CHUNK_BYTES - before);
#ifdef MADV_HUGEPAGE
    madvise(start + before, CHUNK_BYTES, MADV_HUGEPAGE);  // only a wish
#endif
    return start + before;
  }

  static inline std::atomic<uint8_t*> kept_[KEPT] = {};
};

class Arena {
 public:
  static constexpr uint32_t NO_REFERENCE = UINT32_MAX;

  Arena() = default;
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;
  ~Arena() {
    for (const Chunk& chunk : chunks_) {
      if (chunk.mapped) ChunkPool::give(chunk.data);
      else deallocate(chunk.data);
    }
  }

  // A piece of so many bytes; std::bad_alloc.
  uint8_t* take(size_t size) {
    size = (size + 7) & ~size_t{7};
    if (size > left_) {
      if (size > LARGEST_CHUNK / 4) return take_alone(size);
      begin_chunk(size);
    }
    uint8_t* piece = at_;
    last_ = current_ << OFFSET_BITS | static_cast<uint32_t>((piece - chunks_[current_].data) >> 3);
    if (current_ >= CHUNKS) last_ = NO_REFERENCE;
    at_ += size;
    left_ -= size;
    bytes_ += size;
    return piece;
  }

  // Have the next pieces, of so many bytes in all, at hand: to take them will not fail.
  void reserve(size_t size) {
    if (size > left_) begin_chunk(size);
  }

  // The piece taken last, in 32 bits; NO_REFERENCE when there are too many chunks for that.
  uint32_t last_reference() const { return last_; }

  uint8_t* at(uint32_t reference) const {
    return chunks_[reference >> OFFSET_BITS].data + (size_t{reference & OFFSET_MASK} << 3);
  }

  // What was taken so far.
  size_t bytes() const { return bytes_; }

 private:
  static constexpr uint32_t OFFSET_BITS = 18;
  static constexpr uint32_t OFFSET_MASK = (1u << OFFSET_BITS) - 1;
  static constexpr uint32_t CHUNKS = (1u << (32 - OFFSET_BITS)) - 1;  // that references can name
  static constexpr size_t SMALLEST_CHUNK = size_t{8} << 10;
  static constexpr size_t LARGEST_CHUNK = size_t{8} << OFFSET_BITS;
  static_assert(LARGEST_CHUNK == ChunkPool::CHUNK_BYTES);

  struct Chunk {
    uint8_t* data;
    bool mapped;
  };

  // Some of a chunk is left over when the next one begins: at most a quarter of it.
  void begin_chunk(size_t size) {
    size_t grown = std::min(LARGEST_CHUNK, SMALLEST_CHUNK << std::min<size_t>(begun_, 8));
    at_ = add_chunk(std::max(size, grown));
    left_ = std::max(size, grown);
    current_ = static_cast<uint32_t>(chunks_.size() - 1);
    begun_++;
  }

  uint8_t* take_alone(size_t size) {
    uint8_t* piece = add_chunk(size);
    size_t number = chunks_.size() - 1;
    last_ = number < CHUNKS ? static_cast<uint32_t>(number) << OFFSET_BITS : NO_REFERENCE;
    bytes_ += size;
    return piece;
  }

  uint8_t* add_chunk(size_t size) {
    if (chunks_.size() == chunks_.capacity()) chunks_.reserve(std::max<size_t>(16, 2 * chunks_.size()));
    const bool mapped = size == LARGEST_CHUNK;
    uint8_t* chunk = mapped ? map_chunk() : static_cast<uint8_t*>(allocate(size));
    chunks_.push_back({chunk, mapped});  // within the capacity
    return chunk;
  }

  static uint8_t* map_chunk() {
    deallocate(allocate(1));  // fails where a test wants it to
    return ChunkPool::take();
  }

  Vector<Chunk> chunks_;
  uint8_t* at_ = nullptr;
  size_t left_ = 0;
  size_t bytes_ = 0;
  size_t begun_ = 0;
  uint32_t current_ = 0;
  uint32_t last_ = NO_REFERENCE;
};

}  // namespace murmur
