#include "writer.hpp"

#include "codec.hpp"
#include "crc32.hpp"
#include "filter.hpp"

namespace murmur {

namespace {

/* Handed to the operating system at once. Where it caches files in huge pages, a whole one that
 * begins where such a page does becomes one: who maps the file then has it with one fault, not 512. */
constexpr size_t WRITE_BYTES = 2 << 20;

}  // namespace

void PiecewiseFile::commit() {
  const size_t added = pending_.size() - committed_;
  crc_ = crc32(crc_, pending_.data() + committed_, added);
  size_ += added;
  committed_ = pending_.size();
  if (committed_ >= WRITE_BYTES) write(committed_ - committed_ % WRITE_BYTES);
}

void PiecewiseFile::append(Slice bytes) {
  pending_.append(bytes);
  commit();
}

void PiecewiseFile::finish() {
  if (committed_) write(committed_);
  file_->sync();
  file_->close();
}

void PiecewiseFile::write(size_t count) {
  file_->write(pending_.data(), count);
  committed_ -= count;
  std::memmove(pending_.data(), pending_.data() + count, committed_);
  pending_.truncate(committed_);
}

TableWriter::TableWriter(std::unique_ptr<AppendFile> file, uint64_t number,
                         const TableOptions& options)
    : options_(options), number_(number), file_(std::move(file)) {}

void TableWriter::add(Slice key, Kind kind, Slice value) {
  if (hashes_.empty()) first_ = key.string();
  hashes_.push_back(crc32(key));
  if (kind == Kind::Tombstone) tombstones_++;
  if (kind == Kind::Reference) {
    const Reference reference = Reference::decode(value);
    references_[reference.file] += reference.length;
  }
  block_.add(key, kind, value);
  if (block_.bytes() >= options_.block_bytes) close_block();
}

void TableWriter::add_range(Slice start, Slice stop) {
  if (!range_count_++) first_range_ = start.string();
  last_range_ = stop.string();
  ranges_.add(start, Kind::Put, stop);
}

TableInfo TableWriter::finish(uint64_t max_sequence) {
  if (!block_.empty()) close_block();
  TableInfo info;
  uint8_t footer[FOOTER_BYTES];
  store(footer, number_);
  store(footer + 8, uint64_t{hashes_.size()});
  store(footer + 16, tombstones_);
  store(footer + 24, range_count_);

  scratch_.clear();
  filter::build(hashes_, options_.bits_per_key, scratch_);
  Handle handles[4];
  handles[0] = put(codec::NONE, scratch_.slice());
  scratch_.clear();
  if (range_count_) ranges_.finish(scratch_);
  handles[1] = put(codec::NONE, scratch_.slice());
  scratch_.clear();
  for (const auto& [file, bytes] : references_) {
    scratch_.append_number(file);
    scratch_.append_number(bytes);
    info.references.emplace_back(file, bytes);
  }
  handles[2] = put(codec::NONE, scratch_.slice());
  scratch_.clear();
  index_.finish(scratch_);
  handles[3] = put(codec::NONE, scratch_.slice());
  for (int at = 0; at < 4; at++) handles[at].encode(footer + 32 + HANDLE_BYTES * at);

  store(footer + 96, file_.crc());
  const uint32_t checksum = crc32(0, footer, 100);
  store(footer + 100, checksum);
  store(footer + 104, TABLE_VERSION);
  std::memcpy(footer + 106, "MURMRSST", 8);
  file_.append({footer, FOOTER_BYTES});
  file_.finish();

  info.number = number_;
  info.size = file_.size();
  info.entries = hashes_.size();
  info.tombstones = tombstones_;
  info.ranges = range_count_;
  info.max_sequence = max_sequence;
  info.checksum = checksum;
  const bool ranges_begin = range_count_ && (empty() || Slice(first_range_) < Slice(first_));
  const bool ranges_end = range_count_ && (empty() || Slice(last_range_) > Slice(last_));
  info.first = ranges_begin ? first_range_ : first_;
  info.last = ranges_end ? last_range_ : last_;
  return info;
}

void TableWriter::close_block() {
  const Slice last = block_.last_key();
  last_ = last.string();
  scratch_.clear();
  block_.finish(scratch_);
  uint8_t handle[HANDLE_BYTES];
  put(options_.codec, scratch_.slice()).encode(handle);
  index_.add(last_, Kind::Put, {handle, HANDLE_BYTES});
}

/* Appends a block in its stored form; an empty one takes no place. */
Handle TableWriter::put(uint8_t codec, Slice block) {
  if (block.empty()) return {file_.size(), 0, 0};
  ByteString& out = file_.pending();
  const size_t start = out.size();
  codec::pack(codec, options_.level, block, out);
  const Slice stored = out.slice().after(start);
  const Handle handle{file_.size(), static_cast<uint32_t>(stored.size), crc32(stored)};
  file_.commit();
  return handle;
}

ValueWriter::ValueWriter(std::unique_ptr<AppendFile> file, uint64_t number)
    : number_(number), file_(std::move(file)) {
  uint8_t header[VALUES_HEADER_BYTES] = {};
  std::memcpy(header, "MURMRVAL", 8);
  store(header + 8, VALUES_VERSION);
  file_.append({header, sizeof header});
}

Reference ValueWriter::add(Slice value) {
  if (value.size > UINT32_MAX) throw InvalidArgument("a value is larger than 4 GiB");
  const Reference reference{number_, file_.size(), static_cast<uint32_t>(value.size), crc32(value)};
  file_.append(value);
  return reference;
}

}  // namespace murmur
