/* arrow.hpp: the Arrow C data interface, by which columns leave the kernel without being copied.
 *
 * Whoever is given an ArrowArray calls its `release` once; that lets go of the buffers:
 *
 *     ArrowArray array;  export_array(column, &array);  ...  array.release(&array);
 *
 * The structures are part of Arrow's ABI and must not change.
 *
 * Source: arrow.apache.org/docs/format/CDataInterface.html.
 */
#pragma once

#include <cstdint>

#ifndef ARROW_C_DATA_INTERFACE
#define ARROW_C_DATA_INTERFACE

#define ARROW_FLAG_NULLABLE 2

extern "C" {

struct ArrowSchema {
  const char* format;
  const char* name;
  const char* metadata;
  int64_t flags;
  int64_t n_children;
  struct ArrowSchema** children;
  struct ArrowSchema* dictionary;
  void (*release)(struct ArrowSchema*);
  void* private_data;
};

struct ArrowArray {
  int64_t length;
  int64_t null_count;
  int64_t offset;
  int64_t n_buffers;
  int64_t n_children;
  const void** buffers;
  struct ArrowArray** children;
  struct ArrowArray* dictionary;
  void (*release)(struct ArrowArray*);
  void* private_data;
};

}  // extern "C"

#endif  // ARROW_C_DATA_INTERFACE
