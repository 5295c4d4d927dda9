/* What happens when a page of a mapped file is gone: the file was truncated, or the disk cannot
 * read it any more. Touching such a page is a SIGBUS, which would end the process.
 *
 *   copy_guarded    the copy ends, and its caller is told
 *   GuardedPages    a page of zeros takes the place of the one that is gone; who has read asks
 *                   afterwards whether it was one of these
 *
 * Whoever handles SIGBUS already is called for every address that is not ours. Whoever takes it over
 * later (`faulthandler.enable()` does) leaves mapped files without a guard until `guard_mappings` is
 * called again: at the next opening of a file, and at the next first touch of a block.
 */
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

#include "common.hpp"

namespace murmur {

/* Handles SIGBUS, if nobody has yet, or somebody else has since. */
void guard_mappings(const std::string& path);

/* memcpy to or from a mapped file. False, with some of it done, if a page is gone. */
bool copy_guarded(uint8_t* out, const uint8_t* from, size_t size);

/* Pages that may be read without `copy_guarded`, as long as this lives. */
class GuardedPages {
 public:
  GuardedPages(const uint8_t* begin, size_t size, const std::string& path);
  ~GuardedPages();
  GuardedPages(const GuardedPages&) = delete;
  GuardedPages& operator=(const GuardedPages&) = delete;

  /* Whether a page of these bytes was replaced by zeros. */
  bool lost(const uint8_t* begin, size_t size) const;
  /* Whether any page was. Costs a look at one byte, the same for all files. */
  bool lost_any() const { return any_lost_.load(std::memory_order_relaxed) && lost_one(); }

 private:
  struct Place;
  bool lost_one() const;
  friend bool replace_page(uintptr_t address);

  static std::atomic<bool> any_lost_;  // of any file, since the process began
  static std::atomic<Place*> places_;  // read by the handler: never freed, but used again
  Place* place_;
};

}  // namespace murmur
