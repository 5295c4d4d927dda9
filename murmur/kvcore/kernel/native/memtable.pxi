# The memtable: memtable.hpp for Python. See kernel/pure/memtable.py for what it means.
#
# Batches are read and written with the interpreter's lock held: nobody can change a batch meanwhile,
# and no fork meets a memtable that is half written.

from cpython.bytes cimport (PyBytes_AS_STRING, PyBytes_Check, PyBytes_FromStringAndSize,
                            PyBytes_GET_SIZE)
from cpython.object cimport PyObject
from cpython.tuple cimport PyTuple_Check, PyTuple_GET_ITEM, PyTuple_GET_SIZE
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libcpp cimport bool as cbool
from libcpp.memory cimport shared_ptr
from libcpp.vector cimport vector

from murmur.errors import InvalidInput as _InvalidInput
from murmur.kvcore.kernel.interface import Ranges as _Ranges


cdef extern from "Python.h":
    PyObject* PySequence_Fast(object, const char*) except NULL
    Py_ssize_t PySequence_Fast_GET_SIZE(PyObject*)
    PyObject** PySequence_Fast_ITEMS(PyObject*)


cdef extern from "memtable.hpp" namespace "murmur" nogil:
    cdef cppclass Operation:
        Slice key
        Slice value
        uint32_t hash
        cbool deleted
    cdef cppclass KeyRange:
        Slice start
        Slice stop
    cdef enum class Seen(uint8_t):
        Nothing
        Value
        Deleted
    cdef cppclass CMemtable "murmur::Memtable"(CEntrySource):
        CMemtable(uint64_t) except +
        void apply(uint64_t, const Operation*, size_t, const KeyRange*, size_t) except +translate_error
        void freeze(uint64_t)
        Seen get(Slice, uint32_t, uint64_t, Slice&)
        RangeTombstones ranges_at(uint64_t) except +translate_error
        uint64_t newest()
        size_t size()
        size_t bytes()


cdef extern from "arena.hpp" namespace "murmur" nogil:
    size_t CHUNK_BYTES "murmur::ChunkPool::CHUNK_BYTES"
    void prepare_chunks "murmur::ChunkPool::prepare"(size_t) noexcept


def prepare_memory(size_t bytes_):
    """Have so much at hand for memtables, cleared already, while others run."""
    cdef size_t wanted = bytes_ // CHUNK_BYTES
    with nogil:
        prepare_chunks(wanted)


cdef enum:
    # What a table can hold: its reader refuses larger blocks.
    _LONGEST = (1 << 30) - (1 << 20)
    _SPARE = 1 << 12  # operations whose memory is kept for the next batch


cdef inline Slice _slice_of(PyObject* data) noexcept:
    return Slice(PyBytes_AS_STRING(<object>data), PyBytes_GET_SIZE(<object>data))


cdef class Memtable(Source):
    """An ordered map of bytes in memory; `sequence` is the last one published before it began."""

    keeps_all = True

    cdef shared_ptr[CMemtable] core
    cdef readonly dict pins  # unused here: all versions stay
    cdef vector[Operation] operations
    cdef vector[KeyRange] cuts
    cdef object __weakref__

    cdef const CEntrySource* entry_source(self) except NULL:
        return self.core.get()

    def __cinit__(self, uint64_t sequence):
        self.core.reset(new CMemtable(sequence))
        self.pins = {}

    def __len__(self):
        """Keys and range tombstones, about: 0 only if there is nothing to flush."""
        return self.core.get().size()

    @property
    def bytes(self):
        """What the memtable takes, overwritten values included."""
        return self.core.get().bytes()

    @property
    def newest(self):
        """The sequence of the last batch."""
        return self.core.get().newest()

    def apply(self, uint64_t sequence, batch, pinned=(), ranges=()):
        """Write a batch at a sequence, the one after the last published.

        The `ranges` are deleted first: start <= key < stop, and what the batch puts there stays.
        Raises TypeError, InvalidInput or MemoryError, and then has changed nothing that is seen.
        """
        cdef PyObject* entries = NULL
        cdef PyObject* pairs = NULL
        try:
            # Only this can run foreign code; from here on nobody else does.
            entries = PySequence_Fast(batch, "a batch is a sequence of entries")
            if ranges is not None and ranges != ():
                pairs = PySequence_Fast(ranges, "ranges are a sequence of pairs")
            self.operations.clear()
            self.cuts.clear()
            self._read_entries(entries)
            if pairs != NULL:
                self._read_ranges(pairs)
            self.core.get().apply(sequence, self.operations.data(), self.operations.size(),
                                  self.cuts.data(), self.cuts.size())
        finally:
            if entries != NULL:
                Py_DECREF(<object>entries)
            if pairs != NULL:
                Py_DECREF(<object>pairs)
            if self.operations.capacity() > _SPARE:
                self.operations = vector[Operation]()

    def freeze(self, uint64_t published):
        """Nothing will be applied any more: drop what was not published."""
        self.core.get().freeze(published)

    def get(self, key, uint64_t sequence):
        """The value that a sequence sees; None: deleted, ABSENT: only older sources know."""
        cdef Slice value
        if not PyBytes_Check(key):
            raise TypeError("a key is bytes")
        cdef Slice wanted = _slice_of(<PyObject*>key)
        cdef Seen seen = self.core.get().get(wanted, c_crc32(0, wanted.data, wanted.size),
                                             sequence, value)
        if seen == Seen.Nothing:
            return _ABSENT
        if seen == Seen.Deleted:
            return None
        return PyBytes_FromStringAndSize(<const char*>value.data, value.size)

    def ranges(self, uint64_t sequence):
        """The range tombstones that a sequence sees."""
        starts = []
        stops = []
        for tombstone in self.core.get().ranges_at(sequence):
            starts.append(<bytes>tombstone.start)
            stops.append(<bytes>tombstone.stop)
        return _Ranges(starts, stops)

    cdef int _read_entries(self, PyObject* entries) except -1:
        cdef Py_ssize_t count = PySequence_Fast_GET_SIZE(entries)
        cdef PyObject** items = PySequence_Fast_ITEMS(entries)
        cdef Operation one
        cdef PyObject* key
        cdef PyObject* value
        cdef size_t size
        self.operations.reserve(count)
        for at in range(count):
            if not PyTuple_Check(<object>items[at]) or PyTuple_GET_SIZE(<object>items[at]) != 2:
                raise TypeError("an entry is a tuple of key and value")
            key = <PyObject*>PyTuple_GET_ITEM(<object>items[at], 0)
            value = <PyObject*>PyTuple_GET_ITEM(<object>items[at], 1)
            if not PyBytes_Check(<object>key):
                raise TypeError("a key is bytes")
            one.key = _slice_of(key)
            one.deleted = <object>value is None
            if one.deleted:
                one.value = Slice()
            elif PyBytes_Check(<object>value):
                one.value = _slice_of(value)
            else:
                raise TypeError("a value is bytes, or None to delete")
            size = one.key.size + one.value.size
            if size > _LONGEST:
                raise _InvalidInput(f"key and value have {size} bytes; {_LONGEST} is the most")
            one.hash = c_crc32(0, one.key.data, one.key.size)
            self.operations.push_back(one)
        return 0

    cdef int _read_ranges(self, PyObject* pairs) except -1:
        cdef PyObject** items = PySequence_Fast_ITEMS(pairs)
        cdef PyObject* start
        cdef PyObject* stop
        cdef KeyRange one
        for at in range(PySequence_Fast_GET_SIZE(pairs)):
            if not PyTuple_Check(<object>items[at]) or PyTuple_GET_SIZE(<object>items[at]) != 2:
                raise TypeError("a range is a tuple of start and stop")
            start = <PyObject*>PyTuple_GET_ITEM(<object>items[at], 0)
            stop = <PyObject*>PyTuple_GET_ITEM(<object>items[at], 1)
            if not PyBytes_Check(<object>start) or not PyBytes_Check(<object>stop):
                raise TypeError("start and stop of a range are bytes")
            one.start = _slice_of(start)
            one.stop = _slice_of(stop)
            if max(one.start.size, one.stop.size) > _LONGEST:
                raise _InvalidInput(f"{_LONGEST} bytes is the most for a key")
            self.cuts.push_back(one)
        return 0
