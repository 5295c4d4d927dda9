# The engine's hot path: a put, a delete or a batch in one call, from the arguments to the log's
# mapped segment, the memtable, and the published sequence. See batch.hpp.
#
# All of it happens with the interpreter's lock held and without running any Python, so it has
# happened or not, in one order, for other threads and for interrupts alike. Whatever is out of the
# ordinary is left to the engine (`write`), which shuts the writer first.

from murmur.errors import TypeMismatch as _TypeMismatch


cdef extern from "batch.hpp" namespace "murmur" nogil:
    cdef enum class Wrote(uint8_t):
        Done
        NoRoom
        Cut
    Wrote write_batch(LogAppender&, CMemtable&, uint64_t, const Operation*, size_t) except +translate_error

cdef extern from *:
    """
    #include <time.h>
    static inline int64_t monotonic_ns() {
      timespec now;
      clock_gettime(CLOCK_MONOTONIC, &now);
      return int64_t{now.tv_sec} * 1000000000 + now.tv_nsec;
    }
    """
    int64_t monotonic_ns() nogil

cdef extern from *:
    """
    /* Lets another thread take the lock: it is woken within some ten microseconds. */
    static void step_aside() {
      PyThreadState* state = PyEval_SaveThread();
      const timespec moment{0, 20000};
      nanosleep(&moment, nullptr);
      PyEval_RestoreThread(state);
    }
    """
    void step_aside()

cdef enum:
    _WRITER_LONGEST_KEY = 1 << 20
    _WRITER_LONGEST_VALUE = 1 << 29
    _WRITER_TURN_NS = 1000000  # between two steps aside


cdef class Writer:
    """Writes to one engine, as long as it is open.

    `write(entries, ranges)` is the engine's own way; `wake()` tells of the first write after
    `rest()`; `wait(position)` returns when it is durable, or is None; `look()` gives the size in
    bytes from which on the memtable is the engine's affair, after every `sample` writes; `timed`
    is told how many nanoseconds one of them took.
    """

    cdef object write_slowly
    cdef object wake
    cdef object wait
    cdef object look
    cdef object timed
    cdef object batch_type
    cdef uint64_t sample
    cdef int64_t turned  # when this last stepped aside
    cdef Latest latest
    cdef Appender appender
    cdef Memtable memtable
    cdef size_t limit
    cdef bint is_open
    cdef bint resting
    cdef vector[Operation] operations

    def __cinit__(self, Latest latest not None, *, write, wake, wait, look, timed, batch_type,
                  uint64_t sample):
        self.latest = latest
        self.write_slowly = write
        self.wake = wake
        self.wait = wait
        self.look = look
        self.timed = timed
        self.batch_type = batch_type
        self.sample = sample
        self.turned = 0
        self.is_open = False
        self.resting = True

    def open(self, Appender appender not None, Memtable memtable not None):
        """Go on, with these. Only a mapped segment is written to natively."""
        self.limit = self.look()
        self.appender = appender
        self.memtable = memtable
        self.is_open = appender.core.get().mapped()

    def shut(self):
        """Leave everything to the engine."""
        self.is_open = False

    def rest(self):
        """Wake the engine when something is written."""
        self.resting = True

    @cython.always_allow_keywords(False)
    def put(self, key, value):
        """Set the value of a key. Raises InvalidInput for what a tree cannot hold."""
        cdef Operation one
        if (not self.is_open or not PyBytes_Check(key) or not PyBytes_Check(value)
                or PyBytes_GET_SIZE(key) > _WRITER_LONGEST_KEY
                or PyBytes_GET_SIZE(value) > _WRITER_LONGEST_VALUE):
            self._put_slowly(key, value)
            return
        one.key = _slice_of(<PyObject*>key)
        one.value = _slice_of(<PyObject*>value)
        one.hash = c_crc32(0, one.key.data, one.key.size)
        one.deleted = False
        if not self._write(&one, 1):
            self._put_slowly(key, value)

    @cython.always_allow_keywords(False)
    def delete(self, key):
        """Delete a key, if it is there."""
        cdef Operation one
        if (not self.is_open or not PyBytes_Check(key)
                or PyBytes_GET_SIZE(key) > _WRITER_LONGEST_KEY):
            self.write_slowly(((key, None),), ())
            return
        one.key = _slice_of(<PyObject*>key)
        one.value = Slice()
        one.hash = c_crc32(0, one.key.data, one.key.size)
        one.deleted = True
        if not self._write(&one, 1):
            self.write_slowly(((key, None),), ())

    @cython.always_allow_keywords(False)
    def write(self, batch):
        """Apply a batch, or (key, value) pairs, where None deletes: all at once or not at all."""
        ranges = ()
        entries = batch
        if isinstance(batch, self.batch_type):
            entries, ranges = batch.entries, batch.ranges
        if not self.is_open or ranges or type(entries) is not list or not self._write_list(entries):
            self.write_slowly(entries, ranges)

    cdef int _put_slowly(self, key, value) except -1:
        if not PyBytes_Check(value):
            raise _TypeMismatch(f"a value is bytes, not {type(value).__name__}")
        self.write_slowly(((key, value),), ())
        return 0

    cdef bint _write_list(self, list entries) except? 2:
        cdef Operation one
        cdef Py_ssize_t at, size = 0
        cdef PyObject* key
        cdef PyObject* value
        self.operations.clear()
        self.operations.reserve(len(entries))
        for at in range(len(entries)):
            entry = entries[at]
            if not PyTuple_Check(entry) or PyTuple_GET_SIZE(entry) != 2:
                return False
            key = <PyObject*>PyTuple_GET_ITEM(entry, 0)
            value = <PyObject*>PyTuple_GET_ITEM(entry, 1)
            if not PyBytes_Check(<object>key) or PyBytes_GET_SIZE(<object>key) > _WRITER_LONGEST_KEY:
                return False
            one.key = _slice_of(key)
            one.deleted = <object>value is None
            if one.deleted:
                one.value = Slice()
            elif (PyBytes_Check(<object>value)
                    and PyBytes_GET_SIZE(<object>value) <= _WRITER_LONGEST_VALUE):
                one.value = _slice_of(value)
            else:
                return False
            one.hash = c_crc32(0, one.key.data, one.key.size)
            self.operations.push_back(one)
            size += one.key.size + one.value.size
        # A large batch gets a memtable of its own.
        if not self.operations.size() or <size_t>size > self.limit // 4:
            return False
        return self._write(self.operations.data(), self.operations.size())

    cdef bint _write(self, const Operation* operations, size_t count) except? 2:
        """False: the engine has to do it; nothing has happened."""
        cdef LogAppender* log = self.appender.core.get()
        cdef CMemtable* memtable = self.memtable.core.get()
        cdef uint64_t sequence = self.latest.sequence + 1
        cdef int64_t began = monotonic_ns() if sequence % self.sample == 0 else 0
        cdef uint64_t position
        if memtable.bytes() >= self.limit:
            return False
        if write_batch(log[0], memtable[0], sequence, operations, count) != Wrote.Done:
            return False
        self.latest.sequence = sequence
        position = log.end
        log.close_block()
        self._written(position, began)
        return True

    cdef int _written(self, uint64_t position, int64_t began) except -1:
        """It has happened. What follows may run Python."""
        if self.resting and self.wake is not None:
            self.wake()
            self.resting = False
        if self.wait is not None:
            self.wait(position)
        cdef int64_t now
        if began:
            now = monotonic_ns()
            self.timed(now - began)
            self.limit = self.look()
            if c_wanted() and now - self.turned >= _WRITER_TURN_NS:
                self.turned = now
                step_aside()
        return 0
