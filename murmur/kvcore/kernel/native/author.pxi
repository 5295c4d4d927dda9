# A replica's hot path: a blind put or delete of a register in one call, as Writer does it for an
# engine. See author.hpp for what is written, and Replica for when it may be.

cdef extern from "author.hpp" namespace "murmur" nogil:
    cdef cppclass CAuthor "murmur::Author":
        CAuthor() except +
        uint64_t seq
        uint64_t stamp
        uint8_t hash[16]
        void follow(const uint8_t*, uint64_t, uint64_t, const uint8_t*)
        Wrote write(LogAppender&, CMemtable&, uint64_t, uint64_t, Slice, Slice, cbool) except +translate_error

cdef extern from *:
    """
    static inline uint64_t wall_ms() {
      timespec now;
      clock_gettime(CLOCK_REALTIME, &now);
      return uint64_t(now.tv_sec) * 1000 + uint64_t(now.tv_nsec) / 1000000;
    }
    """
    uint64_t wall_ms() nogil

cdef enum:
    _LONGEST_KEY = 64 << 10  # of a record's operations
    _LONGEST_VALUE = 64 << 20


cdef class AuthorWriter(Writer):
    """Writes blind puts and deletes of registers for one replica, as long as it is open.

    The keywords are those of Writer, and `write(kind, key, value)` is the replica's own way.
    """

    cdef CAuthor core

    def follow(self, Appender appender not None, Memtable memtable not None, *, bytes replica,
               uint64_t seq, uint64_t stamp, bytes digest, tuple unless):
        """Go on after this record of the replica, unless one of these collections holds anything.

        It must have seen all that has been admitted. `stamp` is the highest that was issued or
        observed.
        """
        self.limit = self.look()
        self.appender = appender
        self.memtable = memtable
        assert len(replica) == 8 and len(digest) == 16, (replica, digest)
        # No Python runs from here on: who fills one of them shuts the writer afterwards.
        for collection in unless:
            if len(collection):
                return
        self.core.follow(<const uint8_t*>PyBytes_AS_STRING(replica), seq, stamp,
                         <const uint8_t*>PyBytes_AS_STRING(digest))
        self.is_open = appender.core.get().mapped()

    @property
    def progress(self):
        """The sequence and position of the last write, its seq, stamp and hash: of one moment."""
        cdef uint64_t sequence = self.latest.sequence
        cdef uint64_t position = self.appender.core.get().end if self.appender is not None else 0
        cdef CAuthor* core = &self.core
        cdef uint64_t seq = core.seq, stamp = core.stamp
        cdef uint8_t hash[16]
        for at in range(16):
            hash[at] = core.hash[at]
        return sequence, position, seq, stamp, PyBytes_FromStringAndSize(<const char*>hash, 16)

    @property
    def seq(self):
        """The seq of the last record."""
        return self.core.seq

    @property
    def stamp(self):
        """The highest stamp."""
        return self.core.stamp

    @cython.always_allow_keywords(False)
    def put(self, key, value):
        """Set the value of a register; its dot is not told."""
        if (not self.is_open or not PyBytes_Check(key) or not PyBytes_Check(value)
                or PyBytes_GET_SIZE(key) > _LONGEST_KEY or PyBytes_GET_SIZE(value) > _LONGEST_VALUE
                or not self._author(<PyObject*>key, <PyObject*>value)):
            self.write_slowly(key, value)

    @cython.always_allow_keywords(False)
    def delete(self, key):
        """Empty a register."""
        if (not self.is_open or not PyBytes_Check(key) or PyBytes_GET_SIZE(key) > _LONGEST_KEY
                or not self._author(<PyObject*>key, NULL)):
            self.write_slowly(key, None)

    cdef bint _author(self, PyObject* key, PyObject* value) except? 2:
        """False: the replica has to do it; nothing has happened."""
        cdef LogAppender* log = self.appender.core.get()
        cdef CMemtable* memtable = self.memtable.core.get()
        cdef uint64_t sequence = self.latest.sequence + 1
        cdef int64_t began = monotonic_ns() if sequence % self.sample == 0 else 0
        cdef uint64_t position
        cdef Slice content
        if memtable.bytes() >= self.limit:
            return False
        if value != NULL:
            content = _slice_of(value)
        if self.core.write(log[0], memtable[0], sequence, wall_ms(), _slice_of(key), content,
                           value == NULL) != Wrote.Done:
            return False
        self.latest.sequence = sequence
        position = log.end
        log.close_block()
        self._written(position, began)
        return True
