/* SharedLock: many readers or one writer, for moments.
 *
 *     state := number of readers | WRITER when one holds it or waits for the last reader
 *
 * A writer that waits keeps new readers out, so that readers in turn cannot starve it, as they can
 * with glibc's std::shared_mutex. Who waits spins, then yields, then sleeps: hold it for
 * microseconds only, and never while waiting for another lock, for I/O or for the interpreter. Not
 * to be taken twice by one thread.
 */
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>

namespace murmur {

class SharedLock {
 public:
  void lock_shared() {
    uint32_t state = state_.load(std::memory_order_relaxed);
    for (unsigned round = 0;;) {
      if (state & WRITER) {
        pause(round++);
        state = state_.load(std::memory_order_relaxed);
      } else if (state_.compare_exchange_weak(state, state + 1, std::memory_order_acquire,
                                              std::memory_order_relaxed)) {
        return;
      }
    }
  }

  void unlock_shared() { state_.fetch_sub(1, std::memory_order_release); }

  void lock() {
    for (unsigned round = 0; state_.fetch_or(WRITER, std::memory_order_acquire) & WRITER;) {
      pause(round++);
    }
    for (unsigned round = 0; state_.load(std::memory_order_acquire) != WRITER;) pause(round++);
  }

  void unlock() { state_.fetch_and(~WRITER, std::memory_order_release); }

 private:
  static constexpr uint32_t WRITER = 1u << 31;

  static void pause(unsigned round) {
    if (round < 64) {
#if defined(__x86_64__) || defined(__i386__)
      __builtin_ia32_pause();
#endif
    } else if (round < 256) {
      std::this_thread::yield();
    } else {
      std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
  }

  std::atomic<uint32_t> state_{0};
};

}  // namespace murmur
