/* fuzz_rows.cpp: any bytes as records; see standalone.hpp.
 *
 * The input is a chunk: a byte that says how many cells, their lengths, a byte each, and the cells.
 * What is made of it is looked at as Arrow would, through the C data interface.
 */
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "columns.hpp"
#include "rows.hpp"
#include "standalone.hpp"
#include "text.hpp"

using namespace murmur;

namespace {

FieldSpec field(uint32_t id, FieldKind kind, const char* format, uint32_t width = 0) {
  FieldSpec spec;
  spec.id = id;
  spec.kind = kind;
  spec.format = format;
  spec.missing = "\xc0";
  spec.width = width;
  spec.low = width == 2 ? INT16_MIN : width == 4 ? INT32_MIN : INT64_MIN;
  spec.high = width == 2 ? INT16_MAX : width == 4 ? INT32_MAX : INT64_MAX;
  spec.precision = 38;
  spec.scale = 10;
  return spec;
}

const std::vector<FieldSpec>& fields() {
  static const std::vector<FieldSpec> all = [] {
    std::vector<FieldSpec> made = {
        field(1, FieldKind::Boolean, "b"),      field(2, FieldKind::Integer, "s", 2),
        field(3, FieldKind::Integer, "i", 4),   field(0x80000001, FieldKind::Integer, "l", 8),
        field(5, FieldKind::Float, "f", 4),     field(6, FieldKind::Float, "g", 8),
        field(7, FieldKind::Decimal, "d:38,10"), field(8, FieldKind::Text, "u"),
        field(9, FieldKind::Binary, "z"),       field(10, FieldKind::Fixed, "w:16", 16),
        field(11, FieldKind::Uuid, "u"),        field(12, FieldKind::Interval, "tin"),
        field(3, FieldKind::Integer, "l", 8),
    };
    made[7].missing = std::string("\xa2", 1) + "ok";
    return made;
  }();
  return all;
}

volatile uint64_t sink;

/* Every byte that Arrow may look at. */
void look_at(const Column& column, const ArrowArray& array) {
  uint64_t sum = 0;
  const auto touch = [&sum](const void* bytes, size_t size) {
    for (size_t at = 0; at < size; ++at) sum += static_cast<const uint8_t*>(bytes)[at];
  };
  const auto length = static_cast<size_t>(array.length);
  if (array.buffers[0]) touch(array.buffers[0], (length + 7) / 8);
  if (array.n_buffers == 3) {
    const auto* offsets = static_cast<const int32_t*>(array.buffers[1]);
    for (size_t at = 0; at < length; ++at) {
      if (offsets[at] > offsets[at + 1]) std::abort();
    }
    const auto size = static_cast<size_t>(offsets[length]);
    touch(array.buffers[2], size);
    if (column.format == "u") {
      for (size_t at = 0; at < length; ++at) {
        const auto* text = static_cast<const uint8_t*>(array.buffers[2]) + offsets[at];
        if (!is_utf8(text, static_cast<size_t>(offsets[at + 1] - offsets[at]))) std::abort();
      }
    }
  } else {
    const std::string& format = column.format;
    const size_t width = format == "b" ? 0
                         : format == "s" ? 2
                         : format == "i" || format == "f" ? 4
                         : format == "l" || format == "g" ? 8
                                                          : 16;
    touch(array.buffers[1], width ? width * length : (length + 7) / 8);
  }
  sink = sum;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const size_t count = data[0];
  if (size < 1 + count) return 0;
  std::string offsets(4 * (count + 1), '\0');
  uint32_t end = 0;
  for (size_t at = 0; at < count; ++at) {
    end += data[1 + at];
    std::memcpy(offsets.data() + 4 * (at + 1), &end, 4);
  }
  // A copy of its own, so that what stands behind it is not the input's.
  const std::vector<uint8_t> cells(data + 1 + count, data + size);
  ColumnReader reader(fields());
  const BadCell bad = reader.add(cells.data(), cells.size(),
                                 reinterpret_cast<const uint8_t*>(offsets.data()), count);
  if (!bad.reason) {
    size_t rows = 0;
    for (const Batch& batch : reader.take()) {
      for (const auto& column : batch) {
        ArrowArray array;
        ArrowSchema schema;
        export_array(column, &array);
        export_schema(column->format, &schema);
        look_at(*column, array);
        array.release(&array);
        schema.release(&schema);
      }
      rows += static_cast<size_t>(batch[0]->length);
    }
    if (rows != count) std::abort();
  }
  // The same cells one by one: what find gives must be whole.
  Finder finder(fields());
  std::vector<const uint8_t*> slots(fields().size());
  uint32_t start = 0;
  for (size_t at = 0; at < count; ++at) {
    uint32_t stop;
    std::memcpy(&stop, offsets.data() + 4 * (at + 1), 4);
    if (stop > cells.size()) break;
    const std::vector<uint8_t> cell(cells.data() + start, cells.data() + stop);
    finder.look(cell.data(), cell.size(), slots.data());
    finder.forget();
    start = stop;
  }
  return 0;
}

namespace {

using Random = std::mt19937_64;

uint32_t below(Random& random, uint32_t bound) { return static_cast<uint32_t>(random() % bound); }

void put_number(std::string& out, char tag, uint64_t number, int bytes) {
  out.push_back(tag);
  while (bytes--) out.push_back(static_cast<char>(number >> (8 * bytes)));
}

void put_id(Random& random, std::string& out) {
  const uint32_t id = below(random, 14);
  if (id == 13) {
    put_number(out, '\xce', 0x80000001u, 4);
  } else {
    out.push_back(static_cast<char>(id));
  }
}

void put_replica(Random& random, std::string& out) {
  out += std::string("\xc4\x08", 2) + std::string(8, static_cast<char>('A' + below(random, 3)));
}

void put_atom(Random& random, std::string& out) {
  const uint64_t number = random() >> below(random, 64);
  switch (below(random, 9)) {
    case 0: out.push_back('\xc0'); break;
    case 1: out.push_back(static_cast<char>(0xc2 + below(random, 2))); break;
    case 2: out.push_back(static_cast<char>(below(random, 128))); break;
    case 3: put_number(out, '\xcf', number, 8); break;
    case 4: put_number(out, '\xd2', number, 4); break;
    case 5: put_number(out, '\xcb', number, 8); break;
    case 6: {
      const std::string text = std::to_string(static_cast<int64_t>(number)) + ".5e-2";
      put_number(out, '\xd9', text.size(), 1);
      out += text;
      break;
    }
    case 7: put_number(out, '\xc4', 16, 1); out += std::string(16, '\x9c'); break;
    default: out += std::string("\xc4\x0c\0\0\0", 5); put_number(out, '\1', number, 8);
  }
}

void put_fields(Random& random, std::string& out) {
  const uint32_t count = below(random, 12);
  out.push_back(static_cast<char>(0x80 | count));
  for (uint32_t each = 0; each < count; ++each) {
    put_id(random, out);
    put_atom(random, out);
  }
}

void put_totals(Random& random, std::string& out) {
  out.push_back(static_cast<char>(0x91));
  out.push_back(static_cast<char>(0x93));
  put_replica(random, out);
  put_number(out, '\xcf', random(), 8);
  out.push_back('\x05');
}

std::string make_cell(Random& random) {
  std::string out;
  if (below(random, 3)) {
    out += "\x95\x01";
    put_number(out, '\xcf', random(), 8);
    put_replica(random, out);
    out.push_back('\x07');
    put_fields(random, out);
    return out;
  }
  const uint32_t lives = 1 + below(random, 3);
  out += "\x92\x02";
  out.push_back(static_cast<char>(0x90 | lives));
  for (uint32_t life = 0; life < lives; ++life) {
    out.push_back(static_cast<char>(0x96));
    put_number(out, '\xcf', random(), 8);
    put_replica(random, out);
    out.push_back('\x07');
    put_fields(random, out);
    out += std::string("\x81\x03\x92\x01", 4);
    put_replica(random, out);
    out += std::string("\x81\x03\x95\x09\x01", 5);
    put_replica(random, out);
    put_totals(random, out);
    put_totals(random, out);
  }
  return out;
}

}  // namespace

std::vector<std::string> seeds() {
  Random random(7);
  std::vector<std::string> all;
  for (int each = 0; each < 500; ++each) {
    std::string head(1, '\0'), body;
    for (uint32_t cells = 1 + below(random, 5); cells; --cells) {
      const std::string cell = make_cell(random);
      if (cell.size() > 255) continue;
      head[0]++;
      head.push_back(static_cast<char>(cell.size()));
      body += cell;
    }
    all.push_back(head + body);
  }
  return all;
}
