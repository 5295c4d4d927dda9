#include "guard.hpp"

#include <cerrno>
#include <csetjmp>
#include <csignal>
#include <mutex>

#include <sys/mman.h>
#include <unistd.h>

namespace murmur {

/* Where guarded pages lie. The handler reads it at any moment, of any thread. */
struct GuardedPages::Place {
  std::atomic<uintptr_t> begin{0}, end{0};          // end 0: nobody's
  std::atomic<uintptr_t> lost_begin{UINTPTR_MAX}, lost_end{0};  // spans all that were lost
  Place* next = nullptr;
};

std::atomic<bool> GuardedPages::any_lost_{false};
std::atomic<GuardedPages::Place*> GuardedPages::places_{nullptr};

namespace {

const uintptr_t PAGE = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));

/* The way out of a page that is not there. Set only around `copy_guarded`'s memcpy. */
thread_local sigjmp_buf* volatile rescue = nullptr;
thread_local volatile sig_atomic_t forwarding = 0;
struct sigaction former;  // what SIGBUS did before
std::mutex changing;      // the handler, or the list of places

}  // namespace

/* In the handler: only what is safe there. */
bool replace_page(uintptr_t address) {
  using Place = GuardedPages::Place;
  for (Place* place = GuardedPages::places_.load(std::memory_order_acquire); place;
       place = place->next) {
    if (address < place->begin.load() || address >= place->end.load()) continue;
    const uintptr_t page = address & ~(PAGE - 1);
    // Told before it happens: whoever reads zeros there will find it said.
    for (uintptr_t known = place->lost_begin.load();
         page < known && !place->lost_begin.compare_exchange_weak(known, page);) {
    }
    for (uintptr_t known = place->lost_end.load();
         page + PAGE > known && !place->lost_end.compare_exchange_weak(known, page + PAGE);) {
    }
    GuardedPages::any_lost_.store(true);
    return mmap(reinterpret_cast<void*>(page), PAGE, PROT_READ,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED;
  }
  return false;
}

namespace {

void on_bus_error(int signal, siginfo_t* info, void* context) {
  if (rescue) siglongjmp(*rescue, 1);
  const int error = errno;
  const bool replaced = replace_page(reinterpret_cast<uintptr_t>(info->si_addr));
  errno = error;
  if (replaced) return;
  // Not ours: to whoever was here before. Once only, since they may have been told to come back.
  if (!forwarding && (former.sa_flags & SA_SIGINFO) && former.sa_sigaction) {
    forwarding = 1;
    former.sa_sigaction(signal, info, context);
    forwarding = 0;
  } else if (!forwarding && !(former.sa_flags & SA_SIGINFO) && former.sa_handler != SIG_DFL &&
             former.sa_handler != SIG_IGN) {
    forwarding = 1;
    former.sa_handler(signal);
    forwarding = 0;
  } else {
    // The access is tried again when this returns, and ends the process as it would have.
    struct sigaction standard = {};
    standard.sa_handler = SIG_DFL;
    sigaction(signal, &standard, nullptr);
  }
}

/* Whether SIGBUS is handled here; else `present` is who has it. */
bool handled(struct sigaction& present, const std::string& path) {
  if (sigaction(SIGBUS, nullptr, &present) < 0) throw IoError(errno, path);
  return (present.sa_flags & SA_SIGINFO) && present.sa_sigaction == on_bus_error;
}

}  // namespace

void guard_mappings(const std::string& path) {
  struct sigaction present = {};
  if (handled(present, path)) return;
  const std::lock_guard<std::mutex> lock(changing);
  if (handled(present, path)) return;
  struct sigaction ours = {};
  ours.sa_sigaction = on_bus_error;
  // Not deferred: leaving by siglongjmp without restoring a mask must not leave SIGBUS blocked.
  ours.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK;
  sigemptyset(&ours.sa_mask);
  former = present;
  if (sigaction(SIGBUS, &ours, nullptr) < 0) throw IoError(errno, path);
}

/* Nothing with a destructor may stand between the two ends. */
bool copy_guarded(uint8_t* out, const uint8_t* from, size_t size) {
  sigjmp_buf point;
  if (sigsetjmp(point, 0)) {
    rescue = nullptr;
    return false;
  }
  rescue = &point;
  std::atomic_signal_fence(std::memory_order_seq_cst);
  std::memcpy(out, from, size);
  std::atomic_signal_fence(std::memory_order_seq_cst);
  rescue = nullptr;
  return true;
}

GuardedPages::GuardedPages(const uint8_t* begin, size_t size, const std::string& path) {
  guard_mappings(path);
  const uintptr_t from = reinterpret_cast<uintptr_t>(begin);
  const std::lock_guard<std::mutex> lock(changing);
  Place* place = places_.load();
  while (place && place->end.load()) place = place->next;
  if (!place) {
    place = new Place;
    place->next = places_.load();
    places_.store(place, std::memory_order_release);
  }
  place->lost_begin.store(UINTPTR_MAX);
  place->lost_end.store(0);
  place->begin.store(from);
  place->end.store((from + size + PAGE - 1) & ~(PAGE - 1));  // last: it is somebody's
  place_ = place;
}

GuardedPages::~GuardedPages() { place_->end.store(0); }

bool GuardedPages::lost_one() const { return place_->lost_end.load() != 0; }

bool GuardedPages::lost(const uint8_t* begin, size_t size) const {
  const uintptr_t from = reinterpret_cast<uintptr_t>(begin);
  return from < place_->lost_end.load() && from + size > place_->lost_begin.load();
}

}  // namespace murmur
