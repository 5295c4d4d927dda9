#include "common.hpp"

#include <algorithm>
#include <atomic>
#include <cstdlib>

#include <sys/mman.h>

#include "iterator.hpp"

namespace murmur {

namespace {

constexpr size_t LINE_BYTES = 64;
constexpr size_t HUGE_PAGE = size_t{2} << 20;
constexpr size_t LARGE = 2 * HUGE_PAGE;

std::atomic<int64_t> allocations_left{-1};  // negative: as many as there is memory for

void count_allocation() {
  if (allocations_left.load(std::memory_order_relaxed) >= 0) {
    // From 1 on it counts down; at nought it stays, so that all later ones fail as well.
    int64_t left = allocations_left.load();
    while (left > 0 && !allocations_left.compare_exchange_weak(left, left - 1)) {
    }
    if (left == 0) throw std::bad_alloc();
  }
}

}  // namespace

void* allocate(size_t bytes) {
  count_allocation();
#ifdef MADV_HUGEPAGE
  // One fault for each two megabytes, and not for each four kilobytes.
  if (bytes >= LARGE) {
    const size_t whole = (bytes + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1);
    void* memory = std::aligned_alloc(HUGE_PAGE, whole);
    if (!memory) throw std::bad_alloc();
    madvise(memory, whole, MADV_HUGEPAGE);  // only a wish
    return memory;
  }
#endif
  void* memory = std::malloc(bytes ? bytes : 1);
  if (!memory) throw std::bad_alloc();
  return memory;
}

void fail_allocation(uint64_t nth) {
  allocations_left.store(nth ? static_cast<int64_t>(nth - 1) : -1);
}

RangeTombstones join_ranges(RangeTombstones ranges) {
  std::sort(ranges.begin(), ranges.end(), [](const auto& left, const auto& right) {
    return Slice(left.start) < Slice(right.start);
  });
  RangeTombstones joined;
  for (RangeTombstone& range : ranges) {
    if (Slice(range.start) >= Slice(range.stop)) continue;
    if (joined.empty() || Slice(joined.back().stop) < Slice(range.start))
      joined.push_back(std::move(range));
    else if (Slice(joined.back().stop) < Slice(range.stop))
      joined.back().stop = std::move(range.stop);
  }
  return joined;
}

}  // namespace murmur
