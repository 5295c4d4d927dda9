/* text.hpp: text that is looked into: UTF-8, and decimals, which atoms write as text.
 *
 *     parse_decimal("12.5", precision 10, scale 2)    1250
 *     format_decimal(1250, scale 2)                   12.50
 *
 * A decimal is what Python's decimal.Decimal reads and writes, in ASCII: -12.50, 1E-10. What would
 * lose digits is not read. Source of the written form: the General Decimal Arithmetic
 * Specification, to-scientific-string.
 */
#pragma once

#include <cstddef>
#include <cstdint>

#include "common.hpp"

namespace murmur {

bool is_utf8(const uint8_t* text, size_t size);

// A number written as text, in units of 10^-scale; false when it is none, is not a multiple of the
// unit, or has more than `precision` digits in all.
bool parse_decimal(const uint8_t* text, size_t size, uint32_t precision, uint32_t scale,
                   __int128& value);

// A number of 10^-scale as Python's decimal writes it: 12.50, 1E-10; with `shortest`, without the
// zeros that end the fraction. Appends to `out`.
void format_decimal(__int128 value, uint32_t scale, bool shortest, ByteString& out);

}  // namespace murmur
