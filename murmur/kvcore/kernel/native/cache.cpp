#include "cache.hpp"

#include <thread>
namespace murmur {

namespace {
constexpr uint64_t SMALL_SHARE = 10;  // `small` keeps a tenth
}

CachedBlock::Owner CachedBlock::make(Slice block) { return make(block, true); }

CachedBlock::Owner CachedBlock::make(Slice block, MappedBytes mapped) {
  Owner made = make(block, false);
  made->view_ = made->view_.at(mapped.data + mapped.size - block.size);
  made->mapped_ = std::move(mapped);
  return made;
}

CachedBlock::Owner CachedBlock::make(Slice block, bool copied) {
  const size_t arrays = sizeof(CachedBlock);
  const size_t bytes = arrays + BlockView::memory_for(block, true);
  // Not aligned_alloc: it leaves a scrap of memory before each block.
  const size_t size = bytes + (copied ? block.size : 0) + alignof(CachedBlock) - alignof(std::max_align_t);
  uint8_t* begin = static_cast<uint8_t*>(allocate(size));
  const size_t shift = -reinterpret_cast<uintptr_t>(begin) & (alignof(CachedBlock) - 1);
  uint8_t* memory = begin + shift;
  try {
    if (copied) {
      std::memcpy(memory + bytes, block.data, block.size);
      block.data = memory + bytes;
    }
    const BlockView view = BlockView::parse(block, memory + arrays, true);
    return Owner(new (memory) CachedBlock(view, size, static_cast<uint8_t>(shift)));
  } catch (...) {
    deallocate(begin);
    throw;
  }
}

uintptr_t BlockCache::wait(Slot& slot) {
  for (int tries = 0;; tries++) {
    const uintptr_t held = slot.load(std::memory_order_relaxed);
    if (!is_block(held) || !(held & LOCKED)) return held;
    if (tries > 100) std::this_thread::yield();  // its owner may have been put off the processor
  }
}

/* Locks a slot that holds a block, or returns what it holds else. Only under the mutex may a slot
 * come to hold something else, so whoever has that and this may change it. */
uintptr_t BlockCache::lock(Slot& slot) {
  uintptr_t held = slot.load(std::memory_order_relaxed);
  for (;;) {
    if (!is_block(held)) return held;
    if (held & LOCKED) held = wait(slot);
    else if (slot.compare_exchange_weak(held, held | LOCKED, std::memory_order_acquire,
                                        std::memory_order_relaxed))
      return held;
  }
}

BlockRef BlockCache::insert(Slot& slot, CachedBlock::Owner made, bool keep) {
  if (made->weight_ > budget_) return BlockRef(made.release());
  const std::lock_guard<std::mutex> guard(mutex_);
  const uintptr_t held = lock(slot);
  if (is_block(held)) {
    CachedBlock* faster = reinterpret_cast<CachedBlock*>(held);
    BlockRef found(faster);
    slot.store(held, std::memory_order_release);
    return found;
  }
  BlockRef inserted(made.get());
  CachedBlock* block = made.release();
  block->references_.fetch_add(1, std::memory_order_relaxed);  // the cache's own
  const bool back = keep && (held & GHOST) && time_ - (held >> 2) <= main_.count + small_.count;
  block->slot_ = &slot;
  block->queue_ = back ? CachedBlock::Queue::Main : CachedBlock::Queue::Small;
  push(back ? main_ : small_, block);
  slot.store(reinterpret_cast<uintptr_t>(block), std::memory_order_release);
  evict();
  return inserted;
}

void BlockCache::forget(Slot* slots, size_t count) {
  const std::lock_guard<std::mutex> guard(mutex_);
  for (size_t at = 0; at < count; at++) {
    const uintptr_t held = slots[at].load(std::memory_order_relaxed);
    if (!is_block(held)) continue;
    CachedBlock* block = reinterpret_cast<CachedBlock*>(held);
    unlink(block);
    slots[at].store(0, std::memory_order_relaxed);
    BlockRef::drop(block);
  }
}

void BlockCache::push(Queue& queue, CachedBlock* block) {
  block->next_ = nullptr;
  block->previous_ = queue.last;
  (queue.last ? queue.last->next_ : queue.first) = block;
  queue.last = block;
  queue.weight += block->weight_;
  queue.count++;
  weight_.store(weight() + block->weight_, std::memory_order_relaxed);
}

void BlockCache::unlink(CachedBlock* block) {
  Queue& queue = block->queue_ == CachedBlock::Queue::Main ? main_ : small_;
  (block->previous_ ? block->previous_->next_ : queue.first) = block->next_;
  (block->next_ ? block->next_->previous_ : queue.last) = block->previous_;
  queue.weight -= block->weight_;
  queue.count--;
  weight_.store(weight() - block->weight_, std::memory_order_relaxed);
}

/* Makes room. Both queues are in the order of the hand: it looks at the first, and what stays goes
 * to the end. */
void BlockCache::evict() {
  while (weight() > budget_) {
    const bool from_small = small_.first && (small_.weight > budget_ / SMALL_SHARE || !main_.first);
    CachedBlock* block = from_small ? small_.first : main_.first;
    const uint8_t uses = block->uses_.load(std::memory_order_relaxed);
    unlink(block);
    if (uses) {
      block->uses_.store(from_small ? 0 : uses - 1, std::memory_order_relaxed);
      block->queue_ = CachedBlock::Queue::Main;
      push(main_, block);
      continue;
    }
    lock(*block->slot_);
    block->slot_->store(from_small ? ++time_ << 2 | GHOST : 0, std::memory_order_release);
    BlockRef::drop(block);
  }
}

}  // namespace murmur
