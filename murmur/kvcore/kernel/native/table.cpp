#include "table.hpp"

#include <algorithm>
#include <map>

#include "codec.hpp"
#include "contents.hpp"
#include "crc32.hpp"
#include "filter.hpp"
#include "reader.hpp"
#include "stream.hpp"

namespace murmur {

namespace {

constexpr char TABLE_MAGIC[] = "MURMRSST";
constexpr char VALUES_MAGIC[] = "MURMRVAL";
constexpr size_t CHECK_BYTES = 1 << 20;  // read at once
constexpr size_t FIRST_PIECE = 32 << 10;  // of a long scan

constexpr size_t KEEP_SCRATCH = 64 << 10;

/* What a thread reads a block into, from one time to the next. Reading may run foreign code, which
 * may come here again: so it is taken out while it is used. */
struct Scratch {
  ByteString stored, raw;

  Scratch() {
    std::swap(stored, spare_stored);
    std::swap(raw, spare_raw);
    stored.clear();
  }
  ~Scratch() {
    if (stored.capacity() <= KEEP_SCRATCH) std::swap(stored, spare_stored);
    if (raw.capacity() <= KEEP_SCRATCH) std::swap(raw, spare_raw);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

 private:
  static thread_local ByteString spare_stored, spare_raw;
};
thread_local ByteString Scratch::spare_stored, Scratch::spare_raw;

std::string quoted(Slice bytes) {
  static const char DIGITS[] = "0123456789abcdef";
  std::string text = "b'";
  for (size_t at = 0; at < bytes.size; at++) {
    const uint8_t byte = bytes[at];
    if (byte >= ' ' && byte < 127 && byte != '\'' && byte != '\\') text += static_cast<char>(byte);
    else text += {'\\', 'x', DIGITS[byte >> 4], DIGITS[byte & 15]};
  }
  return text + "'";
}

}  // namespace

Table::Table(std::unique_ptr<ReadFile> file, TableInfo info, std::shared_ptr<BlockCache> cache)
    : file_(std::move(file)),
      info_(std::move(info)),
      cache_(std::move(cache)),
      mapped_(file_->mapped()) {
  const uint64_t size = file_->size();
  if (size != info_.size)
    throw Corrupt(path(), std::min(size, info_.size),
                  std::to_string(size) + " bytes long instead of " + std::to_string(info_.size));
}

Table::~Table() {
  const Contents* contents = contents_.load(std::memory_order_acquire);
  if (contents && contents->slots) cache_->forget(contents->slots.get(), contents->blocks());
  delete contents;
}

void Table::prefetch_filter(uint32_t hash) {
  const Contents& known = contents();
  if (known.filter.size) filter::prefetch(known.filter, hash);
}

bool Table::may_have(Slice key, uint32_t hash, size_t& block) {
  const Contents& known = contents();
  if (known.filter.size && !filter::may_contain(known.filter, hash)) {
    filtered_.store(filtered_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    return false;
  }
  block = known.find(key);
  return block < known.blocks();
}

bool Table::get_from(size_t at, Slice key, Found& found) {
  const Contents& known = contents();
  BlockRef pin = block(known, at, true);
  bool present;
  const uint32_t position = pin->find(key, present);
  if (position == pin->count())
    throw Corrupt(path(), known.handle(at).offset, "the index has another last key of the block");
  if (!present) {
    pin.verify_all();  // no damage is taken for the absence of a key
    passed_.store(passed_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    return false;
  }
  found.kind = pin->kind(position);
  found.value = pin->value(position);
  if (found.kind != Kind::Put) pin.verify();
  found.pin = std::move(pin);
  return true;
}

const RangeTombstones& Table::ranges() { return contents().ranges; }

uint64_t Table::resident() const {
  const Contents* known = contents_.load(std::memory_order_acquire);
  return known ? known->bytes : 0;
}

Slot& Table::slot(const Contents& contents, size_t at) { return contents.slots[at]; }

BlockRef Table::load_block(const Contents& contents, size_t at, bool keep) {
  const Handle handle = contents.handle(at);
  Scratch scratch;
  const Slice stored{scratch.stored.grow(handle.length), handle.length};
  read_verified(handle, "block", scratch.stored.data());
  CachedBlock::Owner made;
  try {
    const Slice block = codec::unpack(stored, scratch.raw);
    const bool as_stored = block.data >= stored.data && block.data < stored.data + stored.size;
    if (mapped_ && as_stored)
      made = CachedBlock::make(
          block, {mapped_, mapped_->data() + handle.offset, handle.length, handle.crc});
    else made = CachedBlock::make(block);
  } catch (const Malformed& error) {
    throw Corrupt(path(), handle.offset, error.reason);
  }
  return cache_->insert(slot(contents, at), std::move(made), keep);
}

const Table::Contents& Table::load_contents() {
  // Whoever waited here for another's reading might hold a lock that the other needs to go on. So
  // two threads may read it, and the first to be done keeps it.
  std::unique_ptr<Contents> made = read_contents();
  const Contents* present = nullptr;
  if (contents_.compare_exchange_strong(present, made.get(), std::memory_order_acq_rel))
    return *made.release();
  return *present;
}

std::unique_ptr<Table::Contents> Table::read_contents() {
  if (info_.size < FOOTER_BYTES)
    throw Corrupt(path(), 0, "not a table: it is shorter than a footer");
  const uint64_t end = info_.size - FOOTER_BYTES;
  uint8_t footer[FOOTER_BYTES];
  read(end, FOOTER_BYTES, footer);
  const uint8_t* tail = footer + FOOTER_BYTES - 14;
  if (std::memcmp(tail + 6, TABLE_MAGIC, 8))
    throw Corrupt(path(), end, "not a table: it does not end in the magic bytes");
  if (const uint16_t version = load<uint16_t>(tail + 4); version != TABLE_VERSION)
    throw Corrupt(path(), end,
                  "table format " + std::to_string(version) + ", this release reads " +
                      std::to_string(TABLE_VERSION),
                  Damage::Format);
  const uint32_t crc = crc32(0, footer, FOOTER_BYTES - 14);
  if (load<uint32_t>(tail) != crc || crc != info_.checksum)
    throw Corrupt(path(), end, "the footer does not have its checksum", Damage::Checksum);
  if (load<uint64_t>(footer) != info_.number || load<uint64_t>(footer + 8) != info_.entries ||
      load<uint64_t>(footer + 16) != info_.tombstones ||
      load<uint64_t>(footer + 24) != info_.ranges)
    throw Corrupt(path(), end, "the manifest has another number, or other counts");

  auto made = std::make_unique<Contents>();
  made->crc = load<uint32_t>(footer + 96);
  uint64_t offset = end;
  const auto part = [&](int at, const char* what, size_t& skip) {
    const Handle handle = Handle::decode(footer + 32 + HANDLE_BYTES * at);
    offset = handle.offset;
    if (handle.offset > end || handle.length > end - handle.offset)
      throw Corrupt(path(), end, std::string("the ") + what + " is not within the file");
    skip = 0;
    return handle.length ? read_block(handle, what, skip) : Buffer();
  };
  size_t skip = 0;
  try {
    made->filter_bytes = part(0, "filter", skip);
    if (made->filter_bytes.size()) {
      made->filter = made->filter_bytes.slice().after(skip);
      filter::verify(made->filter);
    }

    const Buffer ranges = part(1, "range tombstones", skip);
    if (ranges.size()) {
      Vector<uint64_t> memory;
      const BlockView view = BlockView::parse(ranges.slice().after(skip), memory, false);
      ByteString scratch;
      made->ranges.reserve(view.count());
      for (uint32_t at = 0; at < view.count(); at++) {
        RangeTombstone range{view.key(at, scratch).string(), view.value(at).string()};
        if (Slice(range.start) >= Slice(range.stop) ||
            (at && Slice(made->ranges.back().stop) > Slice(range.start)))
          throw Malformed("the range tombstones are not in order");
        made->bytes += sizeof range + range.start.size() + range.stop.size();
        made->ranges.push_back(std::move(range));
      }
    }
    if (made->ranges.size() != info_.ranges) throw Malformed("another number of range tombstones");

    const Buffer references = part(2, "references", skip);
    if (references.size()) {
      const Slice list = references.slice().after(skip);
      if (list.size % 16) throw Malformed("the references are not of 16 bytes each");
      for (size_t at = 0; at < list.size; at += 16)
        made->references.emplace_back(load<uint64_t>(list.data + at),
                                      load<uint64_t>(list.data + at + 8));
    }

    made->index_bytes = part(3, "index", skip);
    if (made->index_bytes.size())
      made->index =
          BlockView::parse(made->index_bytes.slice().after(skip), made->index_memory, true);
    for (uint32_t at = 0; at < made->index.count(); at++) {
      if (made->index.value(at).size != HANDLE_BYTES)
        throw Malformed("a handle is not 16 bytes long");
      const Handle handle = made->handle(at);
      if (handle.offset > end || handle.length > end - handle.offset)
        throw Malformed("a block is not within the file");
    }
  } catch (const Malformed& error) {
    throw Corrupt(path(), offset, error.reason);
  }
  made->slots.reset(new Slot[made->blocks() ? made->blocks() : 1]());
  made->bytes += made->filter_bytes.size() + made->index_bytes.size() + 8 * made->blocks() +
                 8 * made->index_memory.size();
  return made;
}

Buffer Table::read_block(Handle handle, const char* what, size_t& skip) {
  Buffer stored(handle.length);
  read_verified(handle, what, stored.data());
  try {
    return codec::unpack(std::move(stored), skip);
  } catch (const Malformed& error) {
    throw Corrupt(path(), handle.offset, error.reason);
  }
}

void Table::read_verified(Handle handle, const char* what, uint8_t* out) {
  read(handle.offset, handle.length, out);
  if (crc32(0, out, handle.length) != handle.crc)
    throw Corrupt(path(), handle.offset, std::string("the ") + what + " does not have its checksum",
                  Damage::Checksum);
}

void Table::read(uint64_t offset, size_t size, uint8_t* out) {
  if (closed_.load(std::memory_order_relaxed)) throw ClosedError(path());
  file_->read(offset, size, out);
}

std::vector<Problem> Table::check(const ValueFiles* values) {
  std::vector<Problem> problems;
  const auto report = [&](uint64_t offset, std::string reason) {
    problems.push_back({path(), offset, std::move(reason)});
  };
  try {
    const Contents& known = contents();
    const uint64_t end = info_.size - FOOTER_BYTES;
    Buffer piece(std::min<uint64_t>(CHECK_BYTES, end));
    uint32_t crc = 0;
    for (uint64_t offset = 0; offset < end; offset += piece.size()) {
      const size_t size = static_cast<size_t>(std::min<uint64_t>(piece.size(), end - offset));
      read(offset, size, piece.data());
      crc = crc32(crc, piece.data(), size);
    }
    if (crc != known.crc) report(0, "the file does not have its checksum");

    TableReader reader(*this);
    ByteString previous, last;
    std::string first;
    uint64_t entries = 0, tombstones = 0;
    std::map<uint64_t, uint64_t> references;
    for (size_t at = 0; at < known.blocks(); at++) {
      const uint64_t offset = known.handle(at).offset;
      reader.open(at);
      const BlockView& view = reader.block();
      ByteString scratch;
      for (uint32_t position = 0; position < view.count(); position++) {
        const Slice key = view.key(position, scratch);
        if (entries && key <= previous.slice())
          report(offset, "key " + quoted(key) + " follows " + quoted(previous.slice()));
        if (known.filter.size && !filter::may_contain(known.filter, crc32(key)))
          report(offset, "key " + quoted(key) + " is not in the filter");
        if (!entries) first = key.string();
        if (view.kind(position) == Kind::Tombstone) tombstones++;
        if (view.kind(position) == Kind::Reference) {
          const Reference reference = Reference::decode(view.value(position));
          references[reference.file] += reference.length;
          if (values) check_value(reference, offset, *values, problems);
        }
        previous.assign(key);
        entries++;
      }
      if (known.index.key(static_cast<uint32_t>(at), last) != previous.slice() || !view.count())
        report(offset, "the index has another last key of the block");
    }
    Slice least = first, greatest = previous.slice();
    if (!known.ranges.empty()) {
      if (!entries || Slice(known.ranges.front().start) < least) least = known.ranges.front().start;
      const Slice stop = known.ranges.back().stop;
      if (!entries || stop > greatest) greatest = stop;
    }
    if (least != Slice(info_.first)) report(0, "the manifest has another first key");
    if (greatest != Slice(info_.last)) report(end, "the manifest has another last key");
    if (entries != info_.entries || tombstones != info_.tombstones)
      report(end, std::to_string(entries) + " entries, " + std::to_string(tombstones) +
                                   " of them tombstones");
    const std::vector<std::pair<uint64_t, uint64_t>> sums(references.begin(), references.end());
    if (sums != known.references || sums != info_.references)
      report(end, "the entries refer to other bytes of value files");
  } catch (const Corrupt& error) {
    report(error.offset, error.reason);
  }
  return problems;
}

void Table::check_value(const Reference& reference, uint64_t offset, const ValueFiles& values,
                        std::vector<Problem>& problems) const {
  const auto file = values.find(reference.file);
  if (file == values.end()) {
    problems.push_back({path(), offset,
                        "it refers to value file " + std::to_string(reference.file) +
                            ", which is missing"});
    return;
  }
  try {
    file->second->verify_bounds(reference);
    Buffer value(reference.length);
    file->second->read(reference, value.data());
  } catch (const Corrupt& error) {
    problems.push_back({error.path, error.offset, error.reason});
  }
}

TableIterator::TableIterator(Table& table) : table_(table) {}

TableIterator::~TableIterator() = default;

bool TableIterator::open(size_t block, bool forward) {
  const Table::Contents& contents = table_.contents();
  valid_ = false;
  if (block >= contents.blocks()) {
    block_.verify();
    view_ = nullptr;
    block_.reset();
    block_at_ = contents.blocks();
    at_ = count_ = 0;
    return false;
  }
  if (!view_ || block != block_at_) {
    block_.verify();
    view_ = nullptr;
    const bool wanted = opened_++ < SHORT_SCAN;
    block_ = wanted || !forward ? table_.block(contents, block, wanted)
                                : table_.cached_block(contents, block, false);
    if (!block_ && !stream_) stream_ = std::make_unique<BlockStream>(table_, FIRST_PIECE);
    view_ = block_ ? &*block_ : &stream_->open(block);
  }
  block_at_ = block;
  count_ = view_->count();
  leave_block();
  if (!count_)
    throw Corrupt(table_.path(), contents.handle(block).offset, "a block without entries");
  return true;
}

void TableIterator::seek(Slice key) {
  opened_ = 0;
  if (!open(table_.contents().find(key))) return;
  at_ = view_->lower_bound(key);
  if (at_ == count_)
    throw Corrupt(table_.path(), table_.contents().handle(block_at_).offset,
                  "the index has another last key of the block");
  show(*view_, at_);
}

void TableIterator::seek_first() {
  opened_ = 0;
  if (!open(0)) return;
  at_ = 0;
  show(*view_, at_);
}

void TableIterator::seek_last() {
  opened_ = 0;
  const size_t blocks = table_.contents().blocks();
  if (!open(blocks ? blocks - 1 : 0)) return;
  at_ = count_ - 1;
  show(*view_, at_);
}

void TableIterator::seek_before(Slice key) {
  opened_ = 0;
  const size_t block = table_.contents().find(key);
  if (block == table_.contents().blocks()) return seek_last();
  open(block);
  at_ = view_->lower_bound(key);
  prev();
}

void TableIterator::next_block() {
  if (!open(block_at_ + 1)) return;
  at_ = 0;
  show(*view_, at_);
}

void TableIterator::prev_block() {
  if (block_at_ == 0) {
    block_.verify();
    valid_ = false;
    view_ = nullptr;
    block_.reset();
    at_ = count_ = 0;
    return;
  }
  open(block_at_ - 1, false);
  at_ = count_ - 1;
  show(*view_, at_);
}

ValueFile::ValueFile(std::unique_ptr<ReadFile> file, uint64_t number, uint64_t size)
    : file_(std::move(file)), number_(number), size_(size) {
  const uint64_t present = file_->size();
  if (present != size_)
    throw Corrupt(path(), std::min(present, size_),
                  std::to_string(present) + " bytes long instead of " + std::to_string(size_));
}

void ValueFile::verify_bounds(const Reference& reference) const {
  if (reference.offset < VALUES_HEADER_BYTES || reference.offset > size_ ||
      reference.length > size_ - reference.offset)
    throw Corrupt(path(), reference.offset,
                  "a reference to " + std::to_string(reference.length) + " bytes, past the end");
}

void ValueFile::read(const Reference& reference, uint8_t* out) {
  verify_bounds(reference);
  if (closed_.load(std::memory_order_relaxed)) throw ClosedError(path());
  file_->read(reference.offset, reference.length, out);
  if (crc32(0, out, reference.length) != reference.crc)
    throw Corrupt(path(), reference.offset, "the value does not have its checksum",
                  Damage::Checksum);
}

std::vector<Problem> ValueFile::check() {
  uint8_t header[VALUES_HEADER_BYTES];
  if (closed_.load(std::memory_order_relaxed)) throw ClosedError(path());
  try {
    file_->read(0, sizeof header, header);
    if (std::memcmp(header, VALUES_MAGIC, 8))
      throw Corrupt(path(), 0, "not a value file: the magic bytes are missing");
    if (const uint16_t version = load<uint16_t>(header + 8); version != VALUES_VERSION)
      throw Corrupt(path(), 8,
                    "value file format " + std::to_string(version) + ", this release reads " +
                        std::to_string(VALUES_VERSION),
                    Damage::Format);
  } catch (const Corrupt& error) {
    return {{error.path, error.offset, error.reason}};
  }
  return {};
}

}  // namespace murmur
