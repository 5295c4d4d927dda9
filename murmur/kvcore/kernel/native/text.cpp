#include "text.hpp"

#include <array>
#include <string>

namespace murmur {

namespace {

using Wide = __int128;
using UnsignedWide = unsigned __int128;

constexpr std::array<Wide, 39> powers_of_ten() {
  std::array<Wide, 39> powers{};
  powers[0] = 1;
  for (size_t at = 1; at < powers.size(); ++at) powers[at] = powers[at - 1] * 10;
  return powers;
}
constexpr std::array<Wide, 39> TEN_TO = powers_of_ten();


// Whether no byte of a text of 31 bytes at most is above 7f.
inline bool is_short_ascii(const uint8_t* text, size_t size) {
  uint64_t bits = 0;
  if (size >= 8) {
    for (size_t at = 0; at + 8 < size; at += 8) bits |= load<uint64_t>(text + at);
    bits |= load<uint64_t>(text + size - 8);
  } else if (size >= 4) {
    bits = load<uint32_t>(text) | load<uint32_t>(text + size - 4);
  } else {
    for (size_t at = 0; at < size; ++at) bits |= text[at];
  }
  return !(bits & 0x8080808080808080u);
}

}  // namespace

bool parse_decimal(const uint8_t* text, size_t size, uint32_t precision, uint32_t scale,
                   __int128& value) {
  const uint8_t* at = text;
  const uint8_t* const end = text + size;
  bool negative = false;
  if (at < end && (*at == '-' || *at == '+')) negative = *at++ == '-';
  Wide digits = 0;     // without the zeros at the end,
  int64_t zeros = 0;   // of which there are so many
  int64_t fraction = 0;
  bool any = false, point = false;
  for (; at < end; ++at) {
    const uint32_t digit = static_cast<uint32_t>(*at) - '0';
    if (digit > 9) {
      if (*at != '.' || point) break;
      point = true;
      continue;
    }
    any = true;
    fraction += point;
    if (digit == 0) {
      zeros += digits != 0;
      continue;
    }
    // More than 38 digits that count: no column holds them, and the sum would overflow.
    if (digits != 0 && (zeros >= 38 || digits > TEN_TO[38] / TEN_TO[zeros + 1] - 1)) return false;
    digits = (digits == 0 ? 0 : digits * TEN_TO[zeros + 1]) + static_cast<int>(digit);
    zeros = 0;
  }
  if (!any) return false;
  int64_t exponent = 0;
  if (at < end && (*at == 'e' || *at == 'E')) {
    ++at;
    bool down = false;
    if (at < end && (*at == '-' || *at == '+')) down = *at++ == '-';
    if (at == end) return false;
    for (; at < end; ++at) {
      const uint32_t digit = static_cast<uint32_t>(*at) - '0';
      if (digit > 9) return false;
      if (exponent < 1'000'000'000) exponent = exponent * 10 + digit;
    }
    if (down) exponent = -exponent;
  }
  if (at != end) return false;
  const int64_t unit = exponent - fraction;  // the last digit counts tens to this
  if (digits == 0) {
    value = 0;
    return -38 <= unit && unit <= 38;  // as the row engine has it (catalog/atoms.py)
  }
  const int64_t shift = unit + zeros + static_cast<int64_t>(scale);
  if (shift < 0 || shift > static_cast<int64_t>(precision)) return false;
  if (digits >= TEN_TO[precision - static_cast<size_t>(shift)]) return false;
  digits *= TEN_TO[static_cast<size_t>(shift)];
  value = negative ? -digits : digits;
  return true;
}

bool is_utf8(const uint8_t* text, size_t size) {
  if (size < 32 && is_short_ascii(text, size)) return true;
  const uint8_t* at = text;
  const uint8_t* const end = text + size;
  while (at < end) {
    if (end - at >= 8 && !(load<uint64_t>(at) & 0x8080808080808080u)) {
      at += 8;
      continue;
    }
    const uint8_t first = *at;
    if (first < 0x80) {
      ++at;
      continue;
    }
    // The bounds of the second byte rule out surrogates, long forms and what is beyond U+10FFFF.
    size_t more;
    uint8_t low = 0x80, high = 0xbf;
    if (first >= 0xc2 && first <= 0xdf) {
      more = 1;
    } else if (first >= 0xe0 && first <= 0xef) {
      more = 2;
      if (first == 0xe0) low = 0xa0;
      if (first == 0xed) high = 0x9f;
    } else if (first >= 0xf0 && first <= 0xf4) {
      more = 3;
      if (first == 0xf0) low = 0x90;
      if (first == 0xf4) high = 0x8f;
    } else {
      return false;
    }
    if (static_cast<size_t>(end - at) <= more) return false;
    if (at[1] < low || at[1] > high) return false;
    for (size_t next = 2; next <= more; ++next) {
      if ((at[next] & 0xc0) != 0x80) return false;
    }
    at += more + 1;
  }
  return true;
}

void format_decimal(Wide value, uint32_t scale, bool shortest, ByteString& out) {
  UnsignedWide left = value < 0 ? -static_cast<UnsignedWide>(value) : static_cast<UnsignedWide>(value);
  if (shortest) {
    while (scale && left % 10 == 0) {
      left /= 10;
      --scale;
    }
  }
  char digits[40];
  size_t first = sizeof digits;
  do {
    digits[--first] = static_cast<char>('0' + static_cast<int>(left % 10));
    left /= 10;
  } while (left);
  const size_t count = sizeof digits - first;
  if (value < 0) out.append("-", 1);
  const int64_t adjusted = static_cast<int64_t>(count) - 1 - static_cast<int64_t>(scale);
  if (adjusted < -6) {  // as the General Decimal Arithmetic has it
    out.append(digits + first, 1);
    if (count > 1) {
      out.append(".", 1);
      out.append(digits + first + 1, count - 1);
    }
    const std::string exponent = "E" + std::to_string(adjusted);
    out.append(exponent.data(), exponent.size());
  } else if (scale == 0) {
    out.append(digits + first, count);
  } else if (count > scale) {
    out.append(digits + first, count - scale);
    out.append(".", 1);
    out.append(digits + sizeof digits - scale, scale);
  } else {
    out.append("0.", 2);
    for (size_t zeros = scale - count; zeros; --zeros) out.append("0", 1);
    out.append(digits + first, count);
  }
}

}  // namespace murmur
