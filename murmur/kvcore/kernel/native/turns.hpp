/* Turns: who comes back to the binding's lock is let in by who would hold it on and on.
 *
 * The interpreter takes its lock from a busy thread after 5 ms, and not sooner. A flush comes back to
 * it some twenty times, for each file that it opens, syncs or renames, and would last 100 ms beside a
 * thread that does nothing but put. So threads of the background are *eager* while they run Python,
 * and native writers step aside for a moment, once in a millisecond, while anybody is.
 *
 * Invariant: a thread counts once, however often it says so.
 */
#pragma once

#include <atomic>

namespace murmur::turns {

inline std::atomic<int> eager{0};  // threads
inline thread_local bool mine = false;

inline bool wanted() noexcept { return eager.load(std::memory_order_relaxed) > 0; }

inline void want(bool so) noexcept {
  if (mine == so) return;
  mine = so;
  eager.fetch_add(so ? 1 : -1, std::memory_order_relaxed);
}

/* As long as it lives, the thread is eager, or is not. */
class Turn {
 public:
  explicit Turn(bool so) noexcept : before_(mine) { want(so); }
  ~Turn() { want(before_); }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;

 private:
  const bool before_;
};

}  // namespace murmur::turns
