# A replica's hot path: a blind put or delete of a register, or a row that nobody has, in one call, as
# Writer does it for an engine. See author.hpp for what is written, and Replica for when it may be.

cdef extern from "author.hpp" namespace "murmur" nogil:
    cdef cppclass CAuthor "murmur::Author":
        CAuthor() except +
        uint64_t seq
        uint64_t stamp
        uint8_t hash[16]
        void follow(const uint8_t*, uint64_t, uint64_t, const uint8_t*)
        Wrote write(LogAppender&, CMemtable&, uint64_t, uint64_t, Slice, Slice, cbool) except +translate_error
        Wrote insert(LogAppender&, CMemtable&, uint64_t, uint64_t, const CRowBlock&) except +translate_error

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
    """Writes blind puts and deletes of registers, and single rows, for one replica, as long as it is
    open.

    The keywords are those of Writer, and `write(kind, key, value)` is the replica's own way.
    """

    cdef CAuthor core
    cdef object upper  # the state of the upper floor
    cdef set touched  # by `insert`, since `followed`

    def follow(self, Appender appender not None, Memtable memtable not None, *, bytes replica,
               uint64_t seq, uint64_t stamp, bytes digest, state, tuple unless):
        """Go on after this record of the replica, unless one of these collections holds anything.

        It must have seen all that has been admitted. `stamp` is the highest that was issued or
        observed, `state` what belongs to all that there is.
        """
        self.limit = self.look()
        self.appender = appender
        self.memtable = memtable
        self.upper = state
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

    def followed(self):
        """The sequence, position and seq of the last write, and what rows were inserted under since
        this was asked last: of one moment."""
        touched, self.touched = self.touched, None
        cdef uint64_t position = self.appender.core.get().end if self.appender is not None else 0
        return self.latest.sequence, position, self.core.seq, touched

    @property
    def settled(self):
        """The state that it was opened with; None when it is shut."""
        return self.upper if self.is_open else None

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

    @cython.always_allow_keywords(False)
    def insert(self, RowBlock block not None, state, under):
        """Insert the row of a block of one, if this state is that of all there is and nothing has
        the row's key or claims; False: nothing has happened. `under` is noted for `followed`."""
        cdef CRowBlock* row = block.core.get()
        cdef uint64_t sequence = self.latest.sequence
        cdef Reads reads = self.latest.reads
        cdef Found found
        cdef BlockString key
        cdef size_t plan
        if not self.is_open or state is not self.upper or reads is None or row.count() != 1:
            return False
        row.key(0, key)
        if reads.core.get(key.slice(), sequence, found):
            return False
        for plan in range(row.plans()):
            if row.kind(plan) == EntryKind.Parent:
                return False
            if (row.kind(plan) == EntryKind.Claim
                    and row.present_claim(plan, reads.core, sequence) != NO_ROW):
                return False
        if self.touched is None:
            self.touched = set()
        self.touched.add(under)
        # While a block was read from the disk, others may have written.
        if not self.is_open or state is not self.upper or self.latest.sequence != sequence:
            return False
        cdef LogAppender* log = self.appender.core.get()
        cdef CMemtable* memtable = self.memtable.core.get()
        cdef int64_t began = monotonic_ns() if (sequence + 1) % self.sample == 0 else 0
        cdef uint64_t position
        if memtable.bytes() >= self.limit:
            return False
        if self.core.insert(log[0], memtable[0], sequence + 1, wall_ms(), row[0]) != Wrote.Done:
            return False
        self.latest.sequence = sequence + 1
        position = log.end
        log.close_block()
        self._written(position, began)
        return True
