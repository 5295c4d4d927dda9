/* Common ground of the core: byte slices, integers on disk, errors, allocation.
 *
 *   Slice      bytes that somebody else owns; ordered as Python orders bytes
 *   Corrupt    stored bytes are not what was written: path, offset, reason
 *   Malformed  the same, from a parser that does not know where its bytes stood; whoever knows
 *              turns it into Corrupt
 *   allocate   memory for everything that grows with the data; tests make it fail at will
 *
 * The core knows nothing of Python. A callback into the binding that fails leaves the error with
 * the binding and throws Raised, which nobody here catches.
 *
 * Invariant: an exception leaves every object as it was before the call, or unreachable.
 * After leveldb's Slice and Status.
 */
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <limits>
#include <new>
#include <string>
#include <utility>
#include <vector>

namespace murmur {

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the core loads integers as they stand on disk, little-endian"
#endif

template <class T>
inline T load(const uint8_t* from) {
  T number;
  std::memcpy(&number, from, sizeof(T));
  return number;
}

template <class T>
inline void store(uint8_t* to, T number) {
  std::memcpy(to, &number, sizeof(T));
}

inline uint64_t load_big_u64(const uint8_t* from) {
  return __builtin_bswap64(load<uint64_t>(from));
}

struct Slice {
  static constexpr size_t NEAR = 32;  // bytes that are compared by words

  const uint8_t* data = nullptr;
  size_t size = 0;

  Slice() = default;
  Slice(const uint8_t* bytes, size_t length) : data(bytes), size(length) {}
  Slice(const char* bytes, size_t length)
      : data(reinterpret_cast<const uint8_t*>(bytes)), size(length) {}
  Slice(const std::string& bytes) : Slice(bytes.data(), bytes.size()) {}

  bool empty() const { return size == 0; }
  uint8_t operator[](size_t at) const { return data[at]; }
  Slice after(size_t count) const { return {data + count, size - count}; }
  Slice first(size_t count) const { return {data, count}; }
  std::string string() const { return {reinterpret_cast<const char*>(data), size}; }

  bool starts_with(Slice prefix) const {
    if (size < prefix.size) return false;
    return prefix.size == 0 || !std::memcmp(data, prefix.data, prefix.size);
  }

  /* Negative, zero or positive, as memcmp; a prefix precedes what it begins. */
  int compare(Slice other) const {
    const size_t shared = size < other.size ? size : other.size;
    if (shared < 8) {
      const int order = shared ? std::memcmp(data, other.data, shared) : 0;
      if (order) return order;
    } else {  // by words: most keys are short, and a call to memcmp takes three times as long
      size_t at = 0;
      uint64_t left, right;
      do {
        left = load_big_u64(data + at), right = load_big_u64(other.data + at);
        if (left != right) return left < right ? -1 : 1;
        at += 8;
      } while (at + 8 <= shared && at < NEAR);
      if (shared - at >= 8) {
        const int order = std::memcmp(data + at, other.data + at, shared - at);
        if (order) return order;
      } else if (shared > at) {  // the last eight: some of them are known to be equal
        left = load_big_u64(data + shared - 8), right = load_big_u64(other.data + shared - 8);
        if (left != right) return left < right ? -1 : 1;
      }
    }
    return size < other.size ? -1 : size > other.size;
  }
};

inline bool operator==(Slice left, Slice right) {
  return left.size == right.size && left.starts_with(right);
}
inline bool operator!=(Slice left, Slice right) { return !(left == right); }
inline bool operator<(Slice left, Slice right) { return left.compare(right) < 0; }
inline bool operator<=(Slice left, Slice right) { return left.compare(right) <= 0; }
inline bool operator>(Slice left, Slice right) { return left.compare(right) > 0; }
inline bool operator>=(Slice left, Slice right) { return left.compare(right) >= 0; }

/* The first eight bytes, zero-padded, as a number that sorts as they do. Keys whose heads are
 * equal may still differ. */
inline uint64_t head_of(Slice key) {
  if (key.size >= 8) return load_big_u64(key.data);
  uint64_t head = 0;
  for (size_t at = 0; at < key.size; at++) head |= uint64_t{key.data[at]} << (56 - 8 * at);
  return head;
}

enum class Damage : uint8_t { Content, Checksum, Format };  // Format: a version of another release

/* Stored bytes are not what was written. */
struct Corrupt : std::exception {
  std::string path;
  uint64_t offset;
  std::string reason;
  Damage damage;

  Corrupt(std::string path_, uint64_t offset_, std::string reason_,
          Damage damage_ = Damage::Content)
      : path(std::move(path_)), offset(offset_), reason(std::move(reason_)), damage(damage_) {}
  const char* what() const noexcept override { return reason.c_str(); }
};

/* A parser's complaint; the text is a literal. */
struct Malformed : std::exception {
  const char* reason;
  explicit Malformed(const char* reason_) : reason(reason_) {}
  const char* what() const noexcept override { return reason; }
};

/* A system call failed. */
struct IoError : std::exception {
  int error;  // errno
  std::string path;
  IoError(int error_, std::string path_) : error(error_), path(std::move(path_)) {}
  const char* what() const noexcept override { return path.c_str(); }
};

/* The handle was closed. */
struct ClosedError : std::exception {
  std::string path;
  explicit ClosedError(std::string path_) : path(std::move(path_)) {}
  const char* what() const noexcept override { return path.c_str(); }
};

/* The caller's argument is wrong. */
struct InvalidArgument : std::exception {
  std::string reason;
  explicit InvalidArgument(std::string reason_) : reason(std::move(reason_)) {}
  const char* what() const noexcept override { return reason.c_str(); }
};

/* A callback of the binding failed; its error waits there. */
struct Raised : std::exception {};

/* malloc, or std::bad_alloc. `deallocate` frees it. */
void* allocate(size_t bytes);
inline void deallocate(void* memory) noexcept { std::free(memory); }

/* Lets the n-th call of `allocate` from now on fail (1: the next one), and those after it; 0 ends
 * it. For tests. */
void fail_allocation(uint64_t nth);

/* The standard containers' way to `allocate`. */
template <class T>
struct Allocator {
  using value_type = T;
  Allocator() = default;
  template <class U>
  Allocator(const Allocator<U>&) noexcept {}
  T* allocate(size_t count) {
    if (count > std::numeric_limits<size_t>::max() / sizeof(T)) throw std::bad_alloc();
    return static_cast<T*>(murmur::allocate(count * sizeof(T)));
  }
  void deallocate(T* memory, size_t) noexcept { murmur::deallocate(memory); }
};
template <class T, class U>
bool operator==(const Allocator<T>&, const Allocator<U>&) { return true; }
template <class T, class U>
bool operator!=(const Allocator<T>&, const Allocator<U>&) { return false; }

template <class T>
using Vector = std::vector<T, Allocator<T>>;

/* Uninitialized bytes with one owner. */
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(size_t size) : data_(static_cast<uint8_t*>(allocate(size))), size_(size) {}
  Buffer(Buffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { deallocate(data_); }

  uint8_t* data() { return data_; }
  const uint8_t* data() const { return data_; }
  size_t size() const { return size_; }
  Slice slice() const { return {data_, size_}; }
  void truncate(size_t size) { size_ = size; }

 private:
  uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

/* Bytes that grow at the end, without being cleared first. */
class ByteString {
 public:
  void append(const void* bytes, size_t count) {
    if (count) std::memcpy(grow(count), bytes, count);
  }
  void append(Slice bytes) { append(bytes.data, bytes.size); }
  template <class T>
  void append_number(T number) { append(&number, sizeof number); }
  /* Room for `count` bytes at the end, which count as there. */
  uint8_t* grow(size_t count) {
    if (count > buffer_.size() - size_) enlarge(count);
    uint8_t* end = buffer_.data() + size_;
    size_ += count;
    return end;
  }
  /* Room for `count` bytes more, which do not count as there. */
  void reserve(size_t count) {
    grow(count);
    size_ -= count;
  }
  void assign(Slice bytes) {
    clear();
    append(bytes);
  }
  void truncate(size_t size) { size_ = size; }
  void clear() { size_ = 0; }
  bool empty() const { return size_ == 0; }
  size_t size() const { return size_; }
  size_t capacity() const { return buffer_.size(); }
  uint8_t* data() { return buffer_.data(); }
  const uint8_t* data() const { return buffer_.data(); }
  Slice slice() const { return {buffer_.data(), size_}; }

 private:
  void enlarge(size_t count) {
    Buffer larger(2 * size_ + count + 64);
    if (size_) std::memcpy(larger.data(), buffer_.data(), size_);
    buffer_ = std::move(larger);
  }

  Buffer buffer_;
  size_t size_ = 0;
};

}  // namespace murmur
