#include "rows.hpp"

#include <algorithm>
#include <cstring>

#include "msgpack.hpp"

namespace murmur {

namespace {

constexpr size_t REPLICA_BYTES = 8;
constexpr size_t MAX_GUESSES = 4096;  // as many as a record has fields (record.py)

using Wide = __int128;

}  // namespace

Finder::Finder(const std::vector<FieldSpec>& fields) {
  for (size_t field = 0; field < fields.size(); ++field) {
    const FieldSpec& spec = fields[field];
    const auto* missing = reinterpret_cast<const uint8_t*>(spec.missing.data());
    if (msgpack::skip(missing, missing + spec.missing.size()) != missing + spec.missing.size()) {
      throw InvalidArgument("what a missing field reads is not an atom");
    }
    ids_.push_back(spec.id);
    missing_.push_back(spec.missing);
    const auto earlier = std::find(ids_.begin(), ids_.end() - 1, spec.id) - ids_.begin();
    if (static_cast<size_t>(earlier) < field) {
      twins_.emplace_back(field, static_cast<size_t>(earlier));
    } else {
      sorted_.emplace_back(spec.id, static_cast<int32_t>(field));
    }
  }
  std::sort(sorted_.begin(), sorted_.end());
  counted_.resize(fields.size());
}

int32_t Finder::field_of(uint32_t id) const {
  const auto found = std::lower_bound(sorted_.begin(), sorted_.end(), std::make_pair(id, int32_t{-1}));
  return found != sorted_.end() && found->first == id ? found->second : -1;
}

inline int32_t Finder::guess(size_t place, uint32_t id) {
  if (place < guesses_.size()) {
    Guess& guess = guesses_[place];
    if (guess.id != id) guess = {id, field_of(id)};
    return guess.field;
  }
  const int32_t field = field_of(id);
  if (place == guesses_.size() && place < MAX_GUESSES) guesses_.push_back({id, field});
  return field;
}

// One walk through one cell.
class Finder::Walk {
 public:
  Walk(Finder& finder, const uint8_t* cell, size_t size, const uint8_t** slots, size_t stride)
      : finder_(finder), cell_(cell), at_(cell), end_(cell + size), slots_(slots), stride_(stride) {}

  void cell() {
    const uint32_t count = array();
    const int64_t form = integer("the form is not a number");
    if (form == 1 && (count == 5 || count == 6)) {
      birth();
      const uint32_t size = fields(true, 0);
      if (count == 6) fields(true, size);
    } else if (form == 2 && count == 2) {
      lives();
    } else {
      bad("not a record of a form that is known");
    }
    if (at_ != end_) bad("bytes are left over");
  }

 private:
  [[noreturn]] void bad(const char* reason) const {
    throw BadCell{0, static_cast<size_t>(at_ - cell_), reason};
  }

  uint32_t array() {
    uint32_t count;
    if (!msgpack::read_array(at_, end_, count)) bad("an array is expected");
    return count;
  }

  uint32_t map() {
    uint32_t count;
    if (!msgpack::read_map(at_, end_, count)) bad("a map is expected");
    return count;
  }

  void array_of(uint32_t size) {
    const uint8_t* const start = at_;
    if (array() != size) {
      at_ = start;
      bad("an array of another length is expected");
    }
  }

  // The atom here, which is whole; goes on behind it.
  const uint8_t* atom(uint8_t classes, const char* reason) {
    const uint8_t* const here = at_;
    const uint8_t* const next = msgpack::skip(here, end_);
    if (next == nullptr || !(msgpack::CLASSES[*here] & classes)) bad(reason);
    at_ = next;
    return here;
  }

  // A number of 64 bits, which may lack its sign.
  Wide wide(const char* reason) {
    const uint8_t* const here = atom(msgpack::INT, reason);
    int64_t value;
    if (msgpack::read_int(here, value)) return value;
    return static_cast<uint64_t>(value);
  }

  int64_t integer(const char* reason) {
    const Wide value = wide(reason);
    return value > INT64_MAX ? INT64_MAX : static_cast<int64_t>(value);
  }

  const uint8_t* replica() {
    const uint8_t* const here = atom(msgpack::BINARY, "a replica is expected");
    size_t length;
    const uint8_t* const id = msgpack::read_bytes(here, length);
    if (length != REPLICA_BYTES) {
      at_ = here;
      bad("a replica has another length");
    }
    return id;
  }

  // stamp, replica, seq
  void birth() {
    atom(msgpack::INT, "a stamp is expected");
    replica();
    atom(msgpack::INT, "a sequence number is expected");
  }

  // A field's id; one that is out of range is nobody's, and -1.
  int32_t field(size_t place) {
    // Column ids are hashes of 32 bits.
    if (end_ - at_ >= 5 && *at_ == 0xce) {
      const uint32_t id = msgpack::load32(at_ + 1);
      at_ += 5;
      return finder_.guess(place, id);
    }
    const Wide id = wide("a field is a number");
    return id < 0 || id > UINT32_MAX ? -1 : finder_.guess(place, static_cast<uint32_t>(id));
  }

  // A map of fields, whose places count from `first`; how many there are.
  uint32_t fields(bool wanted, size_t first) {
    const uint32_t count = map();
    for (uint32_t place = 0; place < count; ++place) {
      const int32_t found = field(first + place);
      const uint8_t* const here = at_;
      at_ = msgpack::skip(here, end_);
      if (at_ == nullptr) {
        at_ = here;
        bad("a field's value is expected");
      }
      if (found >= 0 && wanted) slots_[static_cast<size_t>(found) * stride_] = here;
    }
    return count;
  }

  void lives() {
    const uint32_t count = array();
    if (count == 0) bad("a record without a life");
    std::fill(finder_.counted_.begin(), finder_.counted_.end(), Counted{});
    for (uint32_t life = 0; life < count; ++life) {
      array_of(6);
      birth();
      fields(life == 0, 0);
      edited();
      counters();
    }
    for (size_t each = 0; each < finder_.counted_.size(); ++each) {
      const Counted& counted = finder_.counted_[each];
      if (!counted.there) continue;
      const Wide sum = std::clamp<Wide>(counted.sum, INT64_MIN, INT64_MAX);
      std::array<uint8_t, 9> packed;
      packed[0] = 0xd3;
      store(packed.data() + 1, __builtin_bswap64(static_cast<uint64_t>(static_cast<int64_t>(sum))));
      finder_.sums_.push_back(packed);
      slots_[each * stride_] = finder_.sums_.back().data();
    }
  }

  // {field: [stamp, replica]}
  void edited() {
    const uint32_t count = map();
    for (uint32_t each = 0; each < count; ++each) {
      atom(msgpack::INT, "a field is a number");
      array_of(2);
      atom(msgpack::INT, "a stamp is expected");
      replica();
    }
  }

  // {field: [value, stamp, replica, totals, offsets]}, a field at most once in each life
  void counters() {
    const uint32_t count = map();
    Wide last = -1;
    for (uint32_t each = 0; each < count; ++each) {
      const Wide id = wide("a field is a number");
      if (id <= last || id > UINT32_MAX) bad("counters are not in the order of their fields");
      last = id;
      array_of(5);
      Wide total = wide("a counter's value is expected");
      atom(msgpack::INT, "a stamp is expected");
      replica();
      totals(finder_.totals_);
      totals(finder_.offsets_);
      const int32_t found = finder_.field_of(static_cast<uint32_t>(id));
      if (found < 0) continue;
      auto offset = finder_.offsets_.begin();
      for (const Total& each_total : finder_.totals_) {
        Wide plus = each_total.plus, minus = each_total.minus;
        while (offset != finder_.offsets_.end() && compare(*offset, each_total) < 0) ++offset;
        if (offset != finder_.offsets_.end() && compare(*offset, each_total) == 0) {
          plus -= offset->plus;
          minus -= offset->minus;
        }
        // An offset may run ahead of the totals only where a peer lied: it then counts as zero.
        total += std::max<Wide>(plus, 0) - std::max<Wide>(minus, 0);
      }
      Counted& counted = finder_.counted_[static_cast<size_t>(found)];
      counted.there = true;
      counted.sum += total;
    }
  }

  static int compare(const Total& left, const Total& right) {
    return std::memcmp(left.replica, right.replica, REPLICA_BYTES);
  }

  // [[replica, plus, minus]*], by replica
  void totals(std::vector<Total>& into) {
    into.clear();
    const uint32_t count = array();
    for (uint32_t each = 0; each < count; ++each) {
      array_of(3);
      Total total;
      total.replica = replica();
      total.plus = wide("what was added is a number");
      total.minus = wide("what was subtracted is a number");
      if (!into.empty() && compare(into.back(), total) >= 0) bad("totals are not in order");
      into.push_back(total);
    }
  }

  Finder& finder_;
  const uint8_t* const cell_;
  const uint8_t* at_;
  const uint8_t* const end_;
  const uint8_t** const slots_;
  const size_t stride_;
};

// One life whose fields, and counters, all have the ids that are guessed. False: look closer.
bool Finder::find_plain(const uint8_t* cell, const uint8_t* end, const uint8_t** slots,
                        size_t stride) {
  // [1, stamp, 8 bytes of replica, seq, a map, perhaps another one
  const uint8_t* at = cell;
  if (end - at < 2 || (at[0] != 0x95 && at[0] != 0x96) || at[1] != 1) return false;
  at += 2;
  if (at == end || msgpack::CLASSES[*at] != msgpack::INT) return false;
  at = msgpack::skip(at, end);
  if (at == nullptr || end - at < 11 || at[0] != 0xc4 || at[1] != REPLICA_BYTES) return false;
  at += 2 + REPLICA_BYTES;
  if (msgpack::CLASSES[*at] != msgpack::INT) return false;
  at = msgpack::skip(at, end);
  if (at == nullptr) return false;
  size_t place = 0;
  for (int maps = cell[0] == 0x96 ? 2 : 1; maps; --maps) {
    uint32_t count;
    if (!msgpack::read_map(at, end, count) || count > guesses_.size() - place) return false;
    const Guess* guess = guesses_.data() + place;
    for (const Guess* const last = guess + count; guess != last; ++guess) {
      if (end - at < 6 || at[0] != 0xce || msgpack::load32(at + 1) != guess->id) return false;
      const uint8_t* const atom = at + 5;
      at = msgpack::skip(atom, end);
      if (at == nullptr) return false;
      if (guess->field >= 0) slots[static_cast<size_t>(guess->field) * stride] = atom;
    }
    place += count;
  }
  return at == end;
}

void Finder::find(const uint8_t* cell, size_t size, const uint8_t** slots, size_t stride) {
  for (size_t field = 0; field < missing_.size(); ++field) {
    slots[field * stride] = reinterpret_cast<const uint8_t*>(missing_[field].data());
  }
  if (!find_plain(cell, cell + size, slots, stride)) Walk(*this, cell, size, slots, stride).cell();
  for (const auto& [field, earlier] : twins_) slots[field * stride] = slots[earlier * stride];
}

BadCell Finder::look(const uint8_t* cell, size_t size, const uint8_t** slots) {
  try {
    find(cell, size, slots, 1);
  } catch (const BadCell& bad) {
    return bad;
  }
  return {};
}

}  // namespace murmur
