/* Files in memory, for fuzz targets. */
#pragma once

#include <cstring>
#include <string>

#include "file.hpp"

namespace murmur {

class MemoryReadFile final : public ReadFile {
 public:
  explicit MemoryReadFile(Slice bytes) : ReadFile("memory"), bytes_(bytes) {}
  void read(uint64_t offset, size_t size, uint8_t* out) override {
    if (offset > bytes_.size || size > bytes_.size - offset) too_short(offset, size, 0);
    if (size) std::memcpy(out, bytes_.data + offset, size);
  }
  uint64_t size() override { return bytes_.size; }

 private:
  Slice bytes_;
};

class MemoryAppendFile final : public AppendFile {
 public:
  explicit MemoryAppendFile(std::string* target) : AppendFile("memory"), target_(target) {}
  void write(const uint8_t* data, size_t size) override {
    target_->append(reinterpret_cast<const char*>(data), size);
  }
  void sync() override {}
  void close() override {}

 private:
  std::string* target_;
};

}  // namespace murmur
