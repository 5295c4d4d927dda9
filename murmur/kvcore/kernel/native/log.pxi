# Appending to the log: log.hpp for Python.

from cpython.bytes cimport (PyBytes_AS_STRING, PyBytes_Check, PyBytes_FromStringAndSize,
                            PyBytes_GET_SIZE)
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libcpp cimport bool as cbool
from libcpp.memory cimport unique_ptr
from libcpp.string cimport string
from libcpp.vector cimport vector

import errno as _errno
import os as _os

from murmur.kvcore.long_record import LongRecord as _LongRecord
from murmur.kvcore.segment import Block as _Block, Segment as _Segment


cdef extern from "log.hpp" namespace "murmur" nogil:
    cdef cppclass LogSlice "murmur::Slice":
        const uint8_t* data
        size_t size
        LogSlice(const uint8_t*, size_t)

    cdef struct LogOrigin "murmur::Origin":
        uint8_t replica[8]
        uint64_t first
        uint64_t last

    cdef cppclass LogCoverage "murmur::Coverage":
        void reserve(size_t) except +
        void add(const uint8_t*) noexcept
        void add(LogOrigin) noexcept
        void clear()
        size_t size()
        const LogOrigin& operator[](size_t)

    cdef cppclass LogStretch "murmur::Stretch":
        uint64_t stop
        LogCoverage coverage

    cdef cppclass LogAppender "murmur::Appender":
        LogAppender(uint64_t, int64_t, uint64_t, uint64_t, string) except +
        uint64_t end
        uint64_t limit
        uint64_t durable()
        void set_durable(uint64_t) noexcept
        LogCoverage coverage
        vector[LogStretch] blocks
        cbool has_room(uint64_t)
        cbool mapped()
        int map(int, size_t) except +
        void unmap()
        void begin(size_t) except +
        void add(uint8_t, LogSlice) noexcept
        uint8_t* begin_one(size_t) except +
        void seal_one(uint8_t) noexcept
        LogSlice frames()
        cbool store() noexcept
        cbool store_pieces(uint8_t, const vector[LogSlice]&) noexcept
        void moved(size_t) noexcept
        void commit() noexcept
        void close_block() noexcept

    enum: LOG_FRAME_SIZE "murmur::FRAME_SIZE"
    enum: LOG_MAX_RECORD "murmur::MAX_RECORD"
    enum: LOG_ADMITTED "murmur::ADMITTED"


cdef class RowsBytes  # rows.pxi


cdef class Appender:
    """Appends frames to the open segment; see kernel/pure/log.py."""

    cdef unique_ptr[LogAppender] core
    cdef readonly object file
    cdef object blocks  # those of the segment as it was given
    cdef uint64_t start
    cdef int64_t shift

    def __cinit__(self, file, segment, *, uint64_t durable, uint64_t block_bytes):
        cdef LogOrigin origin
        cdef uint64_t stop
        self.file = file
        self.start, end, self.blocks, tail = segment
        stop = self.blocks[len(self.blocks) - 1].stop if self.blocks else self.start
        self.shift = segment.shift
        self.core.reset(
            new LogAppender(end, self.shift, stop, block_bytes, _os.fsencode(file.name)))
        self.core.get().set_durable(durable)
        self.core.get().coverage.reserve(len(tail))
        for replica, (first, last) in tail.items():
            origin = _origin(replica, first, last)
            self.core.get().coverage.add(origin)

    @property
    def end(self):
        return self.core.get().end

    @property
    def limit(self):
        return self.core.get().limit

    @limit.setter
    def limit(self, uint64_t position):
        self.core.get().limit = position

    @property
    def durable(self):
        return self.core.get().durable()

    @durable.setter
    def durable(self, uint64_t position):
        self.core.get().set_durable(position)

    @property
    def mapped(self):
        return self.core.get().mapped()

    @property
    def segment(self):
        # Copied first, all of one moment: making objects may let others append.
        cdef vector[LogStretch] blocks = self.core.get().blocks
        cdef LogCoverage coverage = self.core.get().coverage
        cdef uint64_t end = self.core.get().end
        cdef size_t at, count = blocks.size()
        closed = list(self.blocks)
        for at in range(count):
            closed.append(_Block(blocks[at].stop, _ranges_in(blocks[at].coverage)))
        return _Segment(self.start, end, tuple(closed), _ranges_in(coverage))

    def map(self, size_t size):
        if not hasattr(self.file, "fileno"):
            return False
        cdef int failed = self.core.get().map(self.file.fileno(), size)
        if failed:
            raise OSError(failed, _os.strerror(failed), self.file.name)
        return True

    def close(self):
        self.core.get().limit = 0
        self.core.get().unmap()

    def append(self, int kind, records):
        cdef LogAppender* core = self.core.get()
        cdef uint64_t size = 0
        cdef Py_ssize_t length
        cdef size_t count = 0
        if len(records) == 1 and type(records[0]) is _LongRecord:
            if core.mapped():
                return self._append_long(kind, records[0])
            records = [bytes(records[0])]
        for record in records:
            if not PyBytes_Check(record):
                raise TypeError("records are bytes, or one LongRecord alone")
            length = PyBytes_GET_SIZE(record)
            assert <uint64_t>length <= LOG_MAX_RECORD, length
            assert length >= 17 or kind != LOG_ADMITTED, length
            size += LOG_FRAME_SIZE + length
            count += 1
        if not core.has_room(size):
            return -1
        if not core.mapped() and self.file.tell() != core.end + self.shift:
            return -1
        core.begin(size)
        for record in records:
            core.add(kind, LogSlice(<const uint8_t*>PyBytes_AS_STRING(record),
                                    <size_t>PyBytes_GET_SIZE(record)))
        if kind == LOG_ADMITTED:
            core.coverage.reserve(count)
        if core.mapped():
            if not core.store():
                raise OSError(_errno.EIO, "the file was cut while it was mapped", self.file.name)
        else:
            self.file.write(PyBytes_FromStringAndSize(
                <const char*>core.frames().data, <Py_ssize_t>core.frames().size))
            core.commit()
        if kind == LOG_ADMITTED:
            for record in records:
                core.coverage.add(<const uint8_t*>PyBytes_AS_STRING(record))
        core.close_block()
        return core.end

    cdef object _append_long(self, int kind, record):
        """Store a record from its pieces, while other threads run: nobody else appends."""
        cdef LogAppender* core = self.core.get()
        cdef vector[LogSlice] pieces
        cdef uint64_t size = len(record)
        cdef RowsBytes held
        cdef cbool stored
        cdef bytes head = record.head
        assert size <= LOG_MAX_RECORD, size
        if not core.has_room(LOG_FRAME_SIZE + size):
            return -1
        kept = []
        for piece in record.pieces:
            held = RowsBytes(piece)
            kept.append(held)
            pieces.push_back(LogSlice(<const uint8_t*>held.data, held.size))
        if kind == LOG_ADMITTED:
            core.coverage.reserve(1)
        with nogil:
            stored = core.store_pieces(kind, pieces)
        if not stored:
            raise OSError(_errno.EIO, "the file was cut while it was mapped", self.file.name)
        core.moved(LOG_FRAME_SIZE + size)
        if kind == LOG_ADMITTED:
            core.coverage.add(<const uint8_t*>PyBytes_AS_STRING(head))
        core.close_block()
        return core.end


cdef object _ranges_in(const LogCoverage& coverage):
    cdef size_t at, count = coverage.size()
    ranges = {}
    for at in range(count):
        ranges[PyBytes_FromStringAndSize(<const char*>coverage[at].replica, 8)] = (
            coverage[at].first, coverage[at].last)
    return ranges


cdef LogOrigin _origin(bytes replica, uint64_t first, uint64_t last):
    cdef LogOrigin origin
    cdef int at
    for at in range(8):
        origin.replica[at] = <uint8_t>PyBytes_AS_STRING(replica)[at]
    origin.first = first
    origin.last = last
    return origin
