/* The cache of verified blocks: slots in the tables, a clock that decides who goes.
 *
 *   table    slot 0 | slot 1 | slot 2 | ...        one per data block: empty, a block, or a ghost
 *   small    blocks seen once, first in first out, a tenth of the budget when it is full
 *   main     blocks seen again, under a clock: a hit raises a block's count (to 3), the hand takes
 *            it down, and a block at nought goes
 *
 * A block that leaves `small` untouched leaves a ghost in its slot: when it comes back before
 * `main` has turned over, it goes to `main` at once. A long scan (keep = false) passes through
 * `small` and never disturbs `main`. A hit takes no lock: the lowest bit of the slot guards the few
 * instructions in which a reader takes its reference.
 *
 * Invariant: a block lives as long as the cache or some BlockRef holds it; the weights of those
 * that the cache holds are within the budget after each insert.
 * After S3-FIFO (Yang et al., SOSP 2023), ghosts in place of its ghost queue.
 */
#pragma once

#include <atomic>
#include <memory>
#include <mutex>

#include "block.hpp"
#include "common.hpp"
#include "mapped.hpp"

namespace murmur {

using Slot = std::atomic<uintptr_t>;

/* A verified, parsed block in one piece of memory, in the order in which a search reads it. Its bytes
 * stand there too, or stay where a file is mapped: then what is read of them is true if `verify`,
 * asked afterwards, says nothing.
 *
 *   this | heads, offsets | the block's bytes, unless they are mapped
 */
class alignas(64) CachedBlock {
 public:
  struct Delete {
    void operator()(CachedBlock* block) const noexcept {
      uint8_t* memory = reinterpret_cast<uint8_t*>(block) - block->shift_;
      block->~CachedBlock();
      deallocate(memory);
    }
  };
  using Owner = std::unique_ptr<CachedBlock, Delete>;

  /* A copy of the block; Malformed if it is none. */
  static Owner make(Slice block);
  /* The same, read where it is mapped: the block is a copy of the last of these bytes, and not
   * needed afterwards. */
  static Owner make(Slice block, MappedBytes mapped);
  const BlockView& view() const { return view_; }
  uint64_t weight() const { return weight_; }

 private:
  friend class BlockRef;
  friend class BlockCache;
  enum class Queue : uint8_t { Small, Main };

  CachedBlock(BlockView view, uint64_t weight, uint8_t shift)
      : shift_(shift), view_(view), weight_(weight) {}
  static Owner make(Slice block, bool copied);

  std::atomic<uint32_t> references_{0};
  std::atomic<uint8_t> uses_{0};
  const uint8_t shift_;  // from where its memory begins to the cache line where this does
  Queue queue_ = Queue::Small;
  BlockView view_;
  // A hit touches what is above, a cache line, and the next.
  MappedBytes mapped_;  // what it was stored as, if it is read there
  const uint64_t weight_;
  Slot* slot_ = nullptr;             // under the cache's lock, as queue_ and all below
  CachedBlock* previous_ = nullptr;  // of its queue
  CachedBlock* next_ = nullptr;
};

/* A reference to a block: it stays while this lives, whatever becomes of cache and table. */
class BlockRef {
 public:
  BlockRef() = default;
  explicit BlockRef(CachedBlock* block) : block_(block) {  // counts one more
    if (block_) block_->references_.fetch_add(1, std::memory_order_relaxed);
  }
  BlockRef(BlockRef&& other) noexcept : block_(std::exchange(other.block_, nullptr)) {}
  BlockRef& operator=(BlockRef&& other) noexcept {
    std::swap(block_, other.block_);
    return *this;
  }
  BlockRef(const BlockRef& other) : BlockRef(other.block_) {}
  BlockRef& operator=(const BlockRef& other) {
    return *this = BlockRef(other);
  }
  ~BlockRef() { drop(block_); }

  void reset() { drop(std::exchange(block_, nullptr)); }
  explicit operator bool() const { return block_ != nullptr; }
  const BlockView& operator*() const { return block_->view(); }
  const BlockView* operator->() const { return &block_->view(); }
  /* Corrupt if what was read of the block may be other than what was written: see MappedBytes. */
  void verify() const {
    if (block_) block_->mapped_.verify();
  }
  void verify_all() const {
    if (block_) block_->mapped_.verify_all();
  }

 private:
  friend class BlockCache;
  struct Counted {};
  BlockRef(CachedBlock* block, Counted) : block_(block) {}
  static void drop(CachedBlock* block) {
    if (block && block->references_.fetch_sub(1, std::memory_order_acq_rel) == 1)
      CachedBlock::Delete()(block);
  }

  CachedBlock* block_ = nullptr;
};

class BlockCache {
 public:
  explicit BlockCache(uint64_t budget_bytes) : budget_(budget_bytes) {}
  BlockCache(const BlockCache&) = delete;
  BlockCache& operator=(const BlockCache&) = delete;

  /* Asks for what `find` and a search in the block will read. */
  void prefetch(const Slot& slot) const {
    const uintptr_t held = slot.load(std::memory_order_relaxed);
    if (is_block(held)) prefetch(held);
  }

  /* The block of a slot, if it is here. */
  BlockRef find(Slot& slot, bool keep) {
    uintptr_t held = slot.load(std::memory_order_relaxed);
    if (is_block(held)) prefetch(held);
    while (is_block(held)) {
      if (!(held & LOCKED) &&
          slot.compare_exchange_weak(held, held | LOCKED, std::memory_order_acquire,
                                     std::memory_order_relaxed)) {
        CachedBlock* block = reinterpret_cast<CachedBlock*>(held);
        block->references_.fetch_add(1, std::memory_order_relaxed);
        const uint8_t uses = block->uses_.load(std::memory_order_relaxed);
        if (keep && uses < MOST_USES) block->uses_.store(uses + 1, std::memory_order_relaxed);
        slot.store(held, std::memory_order_release);
        count(hits_);
        return BlockRef(block, BlockRef::Counted{});
      }
      if (held & LOCKED) held = wait(slot);
    }
    count(misses_);
    return {};
  }

  /* Puts a block into its slot, unless another thread was faster: the one that is there now.
   * keep = false: it was read by a long scan. */
  BlockRef insert(Slot& slot, CachedBlock::Owner block, bool keep);

  /* Empties the slots of a table that goes. Nobody may be reading through it any more. */
  void forget(Slot* slots, size_t count);

  uint64_t budget() const { return budget_; }
  uint64_t weight() const { return weight_.load(std::memory_order_relaxed); }  // bytes held
  uint64_t hits() const { return hits_.load(std::memory_order_relaxed); }
  uint64_t misses() const { return misses_.load(std::memory_order_relaxed); }

 private:
  static constexpr uintptr_t LOCKED = 1, GHOST = 2;  // a ghost: time << 2 | GHOST
  static constexpr uint8_t MOST_USES = 3;
  static constexpr int PREFETCHED_LINES = 9;

  struct Queue {
    CachedBlock* first = nullptr;
    CachedBlock* last = nullptr;
    uint64_t weight = 0;
    uint64_t count = 0;
  };

  static bool is_block(uintptr_t held) { return held > LOCKED && !(held & GHOST); }
  // Two threads may count at once and lose one: it is a statistic, not worth a locked instruction.
  static void count(std::atomic<uint64_t>& counter) {
    counter.store(counter.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  }
  /* Asks for heads and offsets while the first line is still on its way. */
  static void prefetch(uintptr_t held) {
    const char* block = reinterpret_cast<const char*>(held & ~LOCKED);
    for (int line = 0; line < PREFETCHED_LINES; line++) __builtin_prefetch(block + 64 * line);
  }
  static uintptr_t wait(Slot& slot);
  static uintptr_t lock(Slot& slot);
  void push(Queue& queue, CachedBlock* block);
  void unlink(CachedBlock* block);
  void evict();

  const uint64_t budget_;
  std::mutex mutex_;  // never held while a file is read
  Queue small_;
  Queue main_;
  uint64_t time_ = 0;  // blocks that left `small` untouched
  std::atomic<uint64_t> weight_{0};
  std::atomic<uint64_t> hits_{0};
  std::atomic<uint64_t> misses_{0};
};

}  // namespace murmur
