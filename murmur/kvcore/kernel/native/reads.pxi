# Reading: reads.hpp and scan.hpp for Python. See kernel/pure/reads.py for what it means.
#
#   get                 with the interpreter's lock, but for waiting for the disk
#   multi_get, scan     pieces of more than some hundred entries are looked up without it
#
# What the core only points to (memtables, tables, value files) lives as long as the `Reads`, which
# an iterator and a running call keep.

cimport cython
from cpython.bytes cimport (PyBytes_AS_STRING, PyBytes_Check, PyBytes_FromStringAndSize,
                            PyBytes_GET_SIZE)
from cpython.buffer cimport PyBUF_FORMAT, PyBUF_ND, PyBUF_WRITABLE
from cpython.list cimport PyList_New, PyList_SET_ITEM
from cpython.ref cimport Py_INCREF, PyObject
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_New, PyTuple_SET_ITEM
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libcpp cimport bool as cbool
from libcpp.memory cimport unique_ptr
from libcpp.vector cimport vector

from murmur.errors import Closed as _Closed, TypeMismatch as _TypeMismatch


cdef extern from "Python.h":
    void PyObject_GC_UnTrack(PyObject*)


cdef extern from "reads.hpp" namespace "murmur" nogil:
    cdef cppclass CReads "murmur::Reads":
        void add_memtable(const CMemtable*) except +
        void add_sorted_run(const CSortedRun*) except +
        void add_run() except +
        void add_table(CTable*) except +
        void add_values(CValueFile*) except +
        cbool get(Slice, uint64_t, Found&) except +translate_error
        void get_many(const Slice*, const uint32_t*, size_t, uint64_t, Found*, cbool*) except +translate_error
        CValueFile& values_of(const CReference&) except +translate_error


cdef extern from "scan.hpp" namespace "murmur" nogil:
    cdef cppclass CRows "murmur::Rows":
        CRows() except +
        size_t count()
        Slice key(size_t)
        Slice value(size_t)
        Slice keys()
        Slice values()
        const uint32_t* key_offsets()
        const uint32_t* value_offsets()
        void clear()
    cdef cppclass CScan "murmur::Scan":
        CScan(const CReads&, Slice, Slice, cbool, uint64_t, cbool) except +translate_error
        cbool fill(CRows&, size_t, size_t) except +translate_error


cdef extern from *:
    """
    #include <algorithm>
    #include <numeric>
    #include "reads.hpp"

    /* The numbers of the keys, in the order of the keys: as they lie in tables. */
    static void sort_keys(const std::vector<murmur::Slice>& keys, bool sorted,
                          std::vector<uint32_t>& order) {
      order.resize(keys.size());
      std::iota(order.begin(), order.end(), 0u);
      if (sorted) std::sort(order.begin(), order.end(), [&](uint32_t left, uint32_t right) {
        return keys[left].compare(keys[right]) < 0;
      });
    }
    """
    void sort_keys(const vector[Slice]&, cbool, vector[uint32_t]&) except + nogil


cdef extern from *:
    """
    #include "scan.hpp"

    /* The memory of the last scan's rows, for the next one. Under the interpreter's lock. */
    static murmur::Rows spare_rows;
    static const size_t KEPT_BYTES = 256 << 10;

    static void take_spare(murmur::Rows& rows) { rows.swap(spare_rows); }
    static void give_spare(murmur::Rows& rows) {
      rows.clear();
      if (rows.capacity() > spare_rows.capacity() && rows.capacity() <= KEPT_BYTES)
        rows.swap(spare_rows);
    }
    """
    void take_spare(CRows&) noexcept
    void give_spare(CRows&) noexcept


cdef enum:
    _FEW = 16  # entries of the first piece of a scan
    _MANY = 512  # of a late one
    _RELEASED = 128  # from so many on others run meanwhile
    _PIECE_BYTES = 256 << 10  # of a scan: large values come a few at a time
    _GROUP = 512  # keys looked up at once


@cython.no_gc_clear  # what the core points to goes last
cdef class Reads:
    """What there is to read. For any number of threads."""

    cdef CReads core
    cdef cbool has_tables
    cdef readonly tuple memtables
    cdef readonly tuple levels
    cdef readonly dict values
    cdef object __weakref__

    def __cinit__(self, memtables, levels, values):
        """Memtables and runs newest first; `levels`: level 0 newest first; `values`: number ->
        ValueFile."""
        cdef const CSortedRun* run
        self.memtables = tuple(memtables)
        self.levels = tuple([tuple(level) for level in levels])
        self.values = dict(values)
        for memtable in self.memtables:
            run = (<Source>_checked(memtable, Source)).sorted_run()
            if run != NULL:
                self.core.add_sorted_run(run)
            else:
                self.core.add_memtable((<Memtable>_checked(memtable, Memtable)).core.get())
        for depth, level in enumerate(self.levels):
            for at, table in enumerate(level):
                if depth == 0 or at == 0:
                    self.core.add_run()
                self.core.add_table((<Table>_checked(table, Table)).core.get())
                self.has_tables = True
        for file in self.values.values():
            self.core.add_values((<ValueFile>_checked(file, ValueFile)).core.get())

    def get(self, key, uint64_t sequence):
        """The value of the key at a sequence, None if it has none."""
        return self._get(key, sequence)

    def multi_get(self, keys, uint64_t sequence):
        """The values of several keys, in their order."""
        return self._multi_get(keys, sequence)

    def scan(self, start, stop, uint64_t sequence, *, cbool reverse=False, is_open=None):
        """The pairs with start <= key < stop (None: no bound), in key order or against it.

        Ends with Closed when `is_open`, asked between pieces, says so. Raises Corruption, or an
        OSError, in the place of the first pair that cannot be read, and then again.
        """
        cdef Pairs pairs = Pairs.__new__(Pairs)
        pairs.reads = self
        pairs.is_open = is_open
        pairs.core.reset(_scan(self, start, stop, sequence, reverse))
        return pairs

    def chunks(self, start, stop, uint64_t sequence, *, size_t bytes_=1 << 20):
        """The same pairs, forward, in chunks of at least so many bytes, but for the last."""
        cdef Chunks chunks = Chunks.__new__(Chunks)
        chunks.reads = self
        chunks.bytes_ = bytes_
        chunks.core.reset(_scan(self, start, stop, sequence, False))
        return chunks

    cdef object _get(self, key, uint64_t sequence):
        cdef Found found
        if not PyBytes_Check(key):
            raise _TypeMismatch(f"a key is bytes, not {type(key).__name__}")
        if not self.core.get(_slice_of(<PyObject*>key), sequence, found):
            return None
        return self._value(found)

    cdef object _value(self, Found& found):
        if found.kind != Kind.Reference:
            value = PyBytes_FromStringAndSize(<const char*>found.value.data, found.value.size)
            found.pin.verify()
            return value
        cdef CReference reference = CReference.decode(found.value)
        cdef CValueFile* file = &self.core.values_of(reference)
        value = PyBytes_FromStringAndSize(NULL, reference.length)
        file.read(reference, <uint8_t*>PyBytes_AS_STRING(value))
        return value

    cdef list _multi_get(self, keys, uint64_t sequence):
        cdef tuple kept = tuple(keys)  # others may change the caller's
        cdef size_t count = len(kept)
        cdef vector[Slice] slices
        cdef vector[uint32_t] order
        cdef vector[Found] found
        cdef cbool present[_GROUP]
        cdef size_t start, at, some
        slices.reserve(count)
        for key in kept:
            if not PyBytes_Check(key):
                raise _TypeMismatch(f"a key is bytes, not {type(key).__name__}")
            slices.push_back(_slice_of(<PyObject*>key))
        values = [None] * <Py_ssize_t>count
        if count == 0:
            return values
        sort_keys(slices, self.has_tables, order)
        for start in range(0, count, _GROUP):
            some = min(count - start, <size_t>_GROUP)
            found.clear()
            found.resize(some)
            if count >= _RELEASED:
                with nogil:
                    self.core.get_many(slices.data(), order.data() + start, some, sequence,
                                       found.data(), present)
            else:
                self.core.get_many(slices.data(), order.data() + start, some, sequence,
                                   found.data(), present)
            for at in range(some):
                if present[at]:
                    values[order[start + at]] = self._value(found[at])
        return values


cdef object _checked(part, type_):
    if not isinstance(part, type_):
        raise TypeError(f"{part!r} is no {type_.__name__} of this kernel")
    return part


cdef CScan* _scan(Reads reads, start, stop, uint64_t sequence, cbool reverse) except NULL:
    if not PyBytes_Check(start) or not (stop is None or PyBytes_Check(stop)):
        raise _TypeMismatch(
            f"bounds are bytes, and stop may be None; not {type(start).__name__} and "
            f"{type(stop).__name__}"
        )
    return new CScan(
        reads.core, _slice_of(<PyObject*>start),
        Slice() if stop is None else _slice_of(<PyObject*>stop), stop is not None, sequence, reverse)


@cython.no_gc_clear  # what the core points to goes last
cdef class Pairs:
    """The pairs of a scan, one by one."""

    cdef Reads reads
    cdef object is_open  # of a snapshot's
    cdef Latest latest  # of one that has none
    cdef object error  # what ended it
    cdef unique_ptr[CScan] core
    cdef CRows rows
    cdef size_t at
    cdef size_t count
    cdef size_t most
    cdef cbool done
    cdef cbool filling

    def __cinit__(self):
        self.most = _FEW
        take_spare(self.rows)

    def __dealloc__(self):
        give_spare(self.rows)

    def __iter__(self):
        return self

    def __next__(self):
        if self.at == self.count and not self._fill():
            raise StopIteration
        cdef Slice key = self.rows.key(self.at)
        cdef Slice value = self.rows.value(self.at)
        self.at += 1
        pair = PyTuple_New(2)
        first = PyBytes_FromStringAndSize(<const char*>key.data, key.size)
        Py_INCREF(first)
        PyTuple_SET_ITEM(pair, 0, first)
        second = PyBytes_FromStringAndSize(<const char*>value.data, value.size)
        Py_INCREF(second)
        PyTuple_SET_ITEM(pair, 1, second)
        PyObject_GC_UnTrack(<PyObject*>pair)  # nothing in it can refer to it
        return pair

    cdef cbool _fill(self) except *:
        if self.filling:
            raise ValueError("another thread is in this iterator")
        if self.error is not None:
            raise self.error
        if self.done:
            return False
        self.filling = True
        try:
            self.rows.clear()
            self.at = self.count = 0
            if self.is_open is not None and not self.is_open():
                raise _Closed("the snapshot is closed")
            if self.latest is not None and self.latest.reads is None:
                raise _Closed("the tree is closed")
            if self.most >= _RELEASED:
                with nogil:
                    self.done = not self.core.get().fill(self.rows, self.most, _PIECE_BYTES)
            else:
                self.done = not self.core.get().fill(self.rows, self.most, _PIECE_BYTES)
        except BaseException as error:
            self.error = error  # after what precedes it
        finally:
            self.filling = False
        self.count = self.rows.count()
        self.most = min(2 * self.most, <size_t>_MANY)
        if self.done or self.error is not None:
            self.core.reset()
        if self.count == 0 and self.error is not None:
            raise self.error
        return self.count > 0


@cython.no_gc_clear  # what the core points to goes last
cdef class Chunks:
    """The pairs of a scan, by the thousand."""

    cdef Reads reads
    cdef object error
    cdef unique_ptr[CScan] core
    cdef size_t bytes_
    cdef cbool done
    cdef cbool filling

    def __iter__(self):
        return self

    def __next__(self):
        if self.filling:
            raise ValueError("another thread is in this iterator")
        if self.error is not None:
            raise self.error
        if self.done:
            raise StopIteration
        cdef Chunk chunk = Chunk.__new__(Chunk)
        self.filling = True
        try:
            with nogil:
                self.done = not self.core.get().fill(chunk.rows, <size_t>-1, self.bytes_)
        except BaseException as error:
            self.error = error
        finally:
            self.filling = False
        if self.done or self.error is not None:
            self.core.reset()
        if chunk.rows.count():
            return chunk
        if self.error is not None:
            raise self.error
        raise StopIteration


cdef class Chunk:
    """So many pairs; key number i is keys[key_offsets[i]:key_offsets[i + 1]], values alike."""

    cdef CRows rows

    @property
    def count(self):
        return self.rows.count()

    @property
    def keys(self):
        cdef Slice keys = self.rows.keys()
        return memoryview(_column(self, keys.data, keys.size, 1, b"B"))

    @property
    def key_offsets(self):
        return memoryview(_column(self, self.rows.key_offsets(), self.rows.count() + 1, 4, b"I"))

    @property
    def values(self):
        cdef Slice values = self.rows.values()
        return memoryview(_column(self, values.data, values.size, 1, b"B"))

    @property
    def value_offsets(self):
        return memoryview(_column(self, self.rows.value_offsets(), self.rows.count() + 1, 4, b"I"))


cdef _column(Chunk chunk, const void* data, size_t count, Py_ssize_t width, bytes format_):
    cdef ChunkColumn column = ChunkColumn.__new__(ChunkColumn)
    column.chunk = chunk
    column.data = data
    column.shape = count
    column.width = width
    column.format_ = format_
    return column


cdef class ChunkColumn:
    """One of a chunk's four columns, for the buffer protocol."""

    cdef Chunk chunk
    cdef const void* data
    cdef Py_ssize_t shape
    cdef Py_ssize_t width
    cdef bytes format_

    def __getbuffer__(self, Py_buffer* view, int flags):
        if flags & PyBUF_WRITABLE:
            raise BufferError("a chunk is not to be written")
        view.obj = self
        # An empty column may have no memory; a buffer has.
        view.buf = <void*>self.data if self.data != NULL else <void*>&self.shape
        view.len = self.shape * self.width
        view.itemsize = self.width
        view.readonly = 1
        view.ndim = 1
        view.format = PyBytes_AS_STRING(self.format_) if flags & PyBUF_FORMAT else NULL
        view.shape = &self.shape if flags & PyBUF_ND else NULL
        view.strides = &self.width if flags & PyBUF_ND else NULL
        view.suboffsets = NULL
        view.internal = NULL


cdef class Latest:
    """The arrangement and the sequence that were published last."""

    cdef Reads reads
    cdef readonly uint64_t sequence

    def __cinit__(self, Reads reads not None, uint64_t sequence):
        self.reads = reads
        self.sequence = sequence

    def move(self, Reads reads not None, uint64_t sequence):
        """Publish; a sequence that is older than the last one moves only the arrangement."""
        if self.reads is not None:
            self.reads = reads
            if sequence > self.sequence:
                self.sequence = sequence

    def close(self):
        """Answer no more: reading raises Closed."""
        self.reads = None

    @cython.always_allow_keywords(False)
    def get(self, key):
        """The latest published value of the key, None if it has none."""
        cdef Reads reads = self.reads  # held, while others may run
        if reads is None:
            raise _Closed("the tree is closed")
        return reads._get(key, self.sequence)

    @cython.always_allow_keywords(False)
    def multi_get(self, keys):
        """The latest published values of several keys, all of one moment."""
        cdef Reads reads = self.reads
        if reads is None:
            raise _Closed("the tree is closed")
        return reads._multi_get(keys, self.sequence)

    def scan(self, start=b"", stop=None, *, cbool reverse=False):
        """The pairs with start <= key < stop (None: no bound) of this moment, in key order or
        against it.

        What is published later is not seen. Ends with Closed when this is closed, and else as
        `Reads.scan`. Lets go of what it reads at its end, or when it is forgotten.
        """
        cdef Pairs pairs = Pairs.__new__(Pairs)
        pairs.reads = self.reads
        if pairs.reads is None:
            raise _Closed("the tree is closed")
        pairs.latest = self
        pairs.core.reset(_scan(pairs.reads, start, stop, self.sequence, reverse))
        return pairs

    def scan_prefix(self, prefix, *, cbool reverse=False):
        """The pairs whose keys begin so, as `scan` gives them."""
        if not PyBytes_Check(prefix):
            raise _TypeMismatch(f"a prefix is bytes, not {type(prefix).__name__}")
        return self.scan(prefix, _after_prefix(prefix), reverse=reverse)


cdef object _after_prefix(prefix):
    # The first key after all that begin so: the last byte that is not the highest, plus one.
    cdef const uint8_t* bytes_ = <const uint8_t*>PyBytes_AS_STRING(prefix)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(prefix)
    while size and bytes_[size - 1] == 0xff:
        size -= 1
    if size == 0:
        return None
    # Begun without content: an object of one given byte is everybody's.
    after = PyBytes_FromStringAndSize(NULL, size)
    cdef uint8_t* to = <uint8_t*>PyBytes_AS_STRING(after)
    memcpy(to, bytes_, size)
    to[size - 1] += 1
    return after
