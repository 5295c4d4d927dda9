/* fuzz_keycode.cpp: any bytes as a key; see standalone.hpp.
 *
 * What is read of them must be written as the same bytes. The first byte of the input chooses the
 * columns, the rest is the key.
 */
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "keycode.hpp"
#include "standalone.hpp"
#include "text.hpp"

using namespace murmur;

namespace {

constexpr size_t KINDS = 12;

KeyColumn column(size_t number, bool descending) {
  KeyColumn made;
  FieldSpec& field = made.field;
  made.descending = descending;
  field.precision = number == 6 ? 38 : 10;
  field.scale = number == 6 ? 30 : 2;
  field.shortest = number == 6;
  field.low = INT64_MIN;
  field.high = INT64_MAX;
  switch (number) {
    case 0: field.kind = FieldKind::Boolean; break;
    case 1: field.width = 2; break;
    case 2: field.width = 4; break;
    case 3: field.width = 8; break;
    case 4: field.kind = FieldKind::Float; break;
    case 5:
    case 6: field.kind = FieldKind::Decimal; break;
    case 7: field.kind = FieldKind::Text; break;
    case 8: field.kind = FieldKind::Binary; break;
    case 9: field.kind = FieldKind::Uuid; break;
    case 10: field.kind = FieldKind::Interval; break;
    default:
      field.width = 8;
      field.low = 0;
      field.high = 86'399'999'999;
  }
  return made;
}

std::vector<KeyColumn> columns_of(uint8_t choice) {
  std::vector<KeyColumn> columns;
  for (unsigned each = 0; each <= choice % 3u; ++each) {
    columns.push_back(column((choice / 3u + 5 * each) % KINDS, (choice >> each) & 1));
  }
  return columns;
}

bool write(KeyWriter& writer, const KeyReader& reader, size_t at) {
  const FieldSpec& field = reader.columns()[at].field;
  const KeyValue& value = reader[at];
  if (value.null) {
    writer.null();
    return true;
  }
  switch (field.kind) {
    case FieldKind::Boolean: writer.boolean(value.truth); return true;
    case FieldKind::Integer: return writer.integer(value.number);
    case FieldKind::Float: writer.floating(value.floating); return true;
    case FieldKind::Decimal: {
      ByteString text;
      format_decimal(value.decimal, field.scale, field.shortest, text);
      return writer.decimal(text.slice());
    }
    case FieldKind::Text:
    case FieldKind::Binary: writer.bytes(reader.bytes_of(at)); return true;
    case FieldKind::Interval: writer.interval(value.number); return true;
    default: return writer.fixed(reader.bytes_of(at));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::vector<uint8_t> key(data + 1, data + size);
  KeyReader reader(columns_of(data[0]));
  if (reader.read({key.data(), key.size()}).reason) return 0;
  KeyWriter writer(columns_of(data[0]));
  writer.begin({});
  for (size_t at = 0; at < reader.columns().size(); ++at) {
    if (!write(writer, reader, at)) std::abort();
  }
  if (writer.slice() != Slice(key.data(), key.size())) std::abort();
  return 0;
}

std::vector<std::string> seeds() {
  static const uint8_t OFTEN[] = {0, 0, 1, 0x61, 0x7f, 0x80, 0xff, 0xc3, 0xa9};
  std::mt19937_64 random(7);
  std::vector<std::string> all;
  for (int each = 0; each < 1000; ++each) {
    std::string input(1, static_cast<char>(random()));
    for (const KeyColumn& column : columns_of(static_cast<uint8_t>(input[0]))) {
      // A tag, and a body that is often one.
      std::string body(1, static_cast<char>(random() % 8 ? 2 : random() % 5));
      const size_t width = column.width() ? column.width() : random() % 9;
      for (size_t at = 0; at < width; ++at) {
        body.push_back(static_cast<char>(random() % 3 ? OFTEN[random() % sizeof OFTEN] : random()));
      }
      if (!column.width()) body += std::string("\0\1", 2);
      if (column.descending) {
        for (char& byte : body) byte = static_cast<char>(~byte);
      }
      input += body;
    }
    all.push_back(input);
  }
  return all;
}
