# Tables, value files, the cache, flush and merge: table.hpp, cache.hpp and merge.hpp for Python.
#
#   storage with descriptors    read and written by the core, without the interpreter's lock
#   any other                   called back, with it: an exception passes through unchanged
#
# A call into the core may let other threads run while it waits for the disk, even where the lock is
# held (`Blocking` in file.hpp): what it works on is owned by shared pointers, or by the caller.

# -- what the core calls


cdef int _read(
    void* file, uint64_t offset, size_t size, uint8_t* out, size_t* got
) except -1 with gil:
    cdef bytes data = (<object>file).read(offset, size)
    got[0] = min(<size_t>PyBytes_GET_SIZE(data), size)
    memcpy(out, PyBytes_AS_STRING(data), got[0])
    return 0


cdef int _size(void* file, uint64_t* size) except -1 with gil:
    size[0] = (<object>file).size()
    return 0


cdef int _write(void* file, const uint8_t* data, size_t size) except -1 with gil:
    (<object>file).write(PyBytes_FromStringAndSize(<const char*>data, size))
    return 0


cdef int _sync(void* file) except -1 with gil:
    (<object>file).sync()
    return 0


cdef int _close(void* file) except -1 with gil:
    (<object>file).close()
    return 0


cdef void _drop(void* file) noexcept with gil:
    # It may happen while an exception is on its way, which closing must not disturb.
    cdef PyObject* type
    cdef PyObject* value
    cdef PyObject* traceback
    PyErr_Fetch(&type, &value, &traceback)
    try:
        (<object>file).close()
    except OSError:
        pass  # of a file that was only read, or is given up
    Py_DECREF(<object>file)
    PyErr_Restore(type, value, traceback)


cdef CAppendFile* _create(void* output, cbool values, uint64_t* number) except NULL with gil:
    of = <object>output
    number[0], file = of.create_values() if values else of.create()
    return _append_file(file)


cdef int _pause(void* output, uint64_t written) except -1 with gil:
    c_want(False)  # it may sleep
    (<object>output).pause(written)
    return 0


cdef int _load_codec(uint8_t codec) except -1 with gil:
    from murmur.kvcore.kernel.codec import addresses
    cdef vector[uint64_t] at = addresses(codec)
    offer_codec(codec, at)
    return 0


# -- files


cdef string _path(file_name) except *:
    return _os.fsencode(file_name)


cdef CReadFile* _read_file(file, path, cbool mmap) except NULL:
    cdef ReadCallbacks callbacks
    cdef int fd
    if hasattr(file, "fileno"):
        fd = file.fileno()
        try:
            return new FdReadFile(fd, _path(path), mmap)
        finally:
            file.close()  # the core has its own
    callbacks.file = <void*>file
    callbacks.read = _read
    callbacks.size = _size
    callbacks.drop = _drop
    cdef CReadFile* made = new CallbackReadFile(callbacks, _path(path))
    Py_INCREF(file)
    return made


cdef CAppendFile* _append_file(file) except NULL:
    cdef AppendCallbacks callbacks
    if hasattr(file, "fileno"):
        try:
            return new FdAppendFile(file.fileno(), _path(file.name))
        finally:
            file.close()
    callbacks.file = <void*>file
    callbacks.write = _write
    callbacks.sync = _sync
    callbacks.close = _close
    callbacks.drop = _drop
    cdef CAppendFile* made = new CallbackAppendFile(callbacks, _path(file.name))
    Py_INCREF(file)
    return made


# -- classes


def crc32(data, uint32_t value=0):
    """The CRC-32 of bytes, as zlib computes it; `value` is that of what precedes them."""
    cdef Py_buffer view
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        return c_crc32(value, view.buf, view.len)
    finally:
        PyBuffer_Release(&view)


def fail_allocation(uint64_t nth):
    """Let the nth allocation of the core from now on, and all later ones, raise MemoryError.

    1 is the next one, 0 ends it. For tests.
    """
    c_fail_allocation(nth)


cdef class BlockCache:
    """Verified blocks, shared by the tables of a tree; see cache.hpp."""

    cdef shared_ptr[CBlockCache] core

    def __cinit__(self, uint64_t budget_bytes):
        self.core = make_shared[CBlockCache](budget_bytes)

    @property
    def weight(self):
        """The bytes that it holds."""
        return self.core.get().weight()

    @property
    def hits(self):
        """How often a block was there; about, when several threads read."""
        return self.core.get().hits()

    @property
    def misses(self):
        """How often it was not."""
        return self.core.get().misses()


cdef class Source:
    """What `write_tables` reads from, besides lists of tables: a frozen memtable."""

    cdef const CEntrySource* entry_source(self) except NULL:
        raise NotImplementedError

    cdef const CSortedRun* sorted_run(self) noexcept:
        return NULL


cdef class Table:
    """An sstable open for reading, by any number of threads; see table.hpp."""

    cdef shared_ptr[CTable] core
    cdef readonly object info
    cdef readonly str name
    cdef readonly str path
    cdef object __weakref__

    def __cinit__(self, storage, str name, info, BlockCache cache not None, *, mmap=False):
        self.info = info
        self.name = name
        self.path = f"{storage.path}/{name}"
        cdef CTableInfo known = _to_info(info)
        cdef unique_ptr[CReadFile] file
        file.reset(_read_file(storage.open(name), self.path, mmap))
        self.core.reset(new CTable(move(file), known, cache.core))

    def get(self, bytes key not None):
        """The key's value: None is a tombstone, ABSENT no entry. Range tombstones are not asked."""
        cdef Slice wanted = _slice(key)
        cdef Found found
        if not self.core.get().get(wanted, c_crc32(0, wanted.data, wanted.size), found):
            return _ABSENT
        if found.kind == Kind.Tombstone:
            return None
        value = _bytes(found.value)
        found.pin.verify()
        return value

    def ranges(self):
        """The range tombstones."""
        return _to_ranges(self.core.get().ranges())

    @property
    def resident(self):
        """Bytes of filter, index and ranges in memory; 0 before the first use."""
        return self.core.get().resident()

    @property
    def filtered(self):
        """How many gets the filter answered; about, when several threads read."""
        return self.core.get().filtered()

    @property
    def passed_in_vain(self):
        """How many gets the filter let pass though there was no such key; about."""
        return self.core.get().passed_in_vain()

    def check(self, values=None):
        """Read all of it: an iterator over what is wrong, if anything is.

        With the value files at hand, by number, the values that it refers to are read as well.
        """
        cdef vector[CProblem] problems
        cdef cmap[uint64_t, CValueFile*] files
        cdef cmap[uint64_t, CValueFile*]* given = NULL
        if values is not None:
            values = dict(values)  # they stay as long as this runs
            files = _to_files(values)
            given = &files
        with nogil:
            problems = self.core.get().check(given)
        return _to_problems(problems)

    def close(self):
        """Read no more from the disk: what is not in memory raises Closed."""
        self.core.get().close()


cdef class ValueFile:
    """A value file open for reading, by any number of threads."""

    cdef shared_ptr[CValueFile] core
    cdef readonly object number
    cdef readonly object size
    cdef readonly str name
    cdef readonly str path
    cdef object __weakref__

    def __cinit__(self, storage, str name, uint64_t number, uint64_t size):
        self.number = number
        self.size = size
        self.name = name
        self.path = f"{storage.path}/{name}"
        cdef unique_ptr[CReadFile] file
        file.reset(_read_file(storage.open(name), self.path, False))
        self.core.reset(new CValueFile(move(file), number, size))

    def read(self, uint64_t offset, uint32_t length, uint32_t crc):
        """The value that a reference describes."""
        cdef CReference reference
        reference.file = self.number
        reference.offset = offset
        reference.length = length
        reference.crc = crc
        return _read_value(self.core.get()[0], reference)

    def check(self):
        """Read the header: an iterator over what is wrong, if anything is."""
        return _to_problems(self.core.get().check())

    def close(self):
        """Read no more from the disk: reading raises Closed."""
        self.core.get().close()


def eager(cbool so):
    """Whether this thread wants writers to step aside: see turns.hpp."""
    c_want(so)


def write_tables(sources, output):
    """Write the union of the sources, newest first, into new tables; see merge.hpp.

    Each source is a frozen Memtable, or sorted, disjoint Tables. Returns the tables' infos in key
    order, and sets `output.value_files`. When it raises, the caller removes the files created.
    """
    held = dict(output.values)  # what is only pointed to stays as long as this runs
    sources = list(sources)
    cdef MergeOptions options = _to_options(output, held)
    cdef vector[const CEntrySource*] of
    cdef vector[shared_ptr[TableSource]] lists
    cdef vector[shared_ptr[CTable]] tables
    cdef OutputCallbacks callbacks
    cdef unique_ptr[CallbackOutput] target
    cdef Merged merged
    cdef shared_ptr[TableSource] made
    for source in sources:
        if isinstance(source, Source):
            of.push_back((<Source>source).entry_source())
            continue
        tables.clear()
        for table in source:
            tables.push_back((<Table?>table).core)
        made.reset(new TableSource(tables))
        lists.push_back(made)
        of.push_back(made.get())
    callbacks.output = <void*>output
    callbacks.create = _create
    callbacks.pause = _pause
    target.reset(new CallbackOutput(callbacks))
    with nogil:
        merged = c_write_tables(of, options, target.get()[0])
    output.value_files.extend(merged.value_files)
    return [_from_info(info) for info in merged.tables]


# -- conversions


cdef inline Slice _slice(bytes data):
    return Slice(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))


cdef inline bytes _bytes(Slice slice):
    return PyBytes_FromStringAndSize(<const char*>slice.data, slice.size)


cdef bytes _read_value(CValueFile& file, const CReference& reference):
    file.verify_bounds(reference)  # before so much memory is taken
    cdef bytes value = PyBytes_FromStringAndSize(NULL, reference.length)
    file.read(reference, <uint8_t*>PyBytes_AS_STRING(value))
    return value


cdef CTableInfo _to_info(info) except *:
    cdef CTableInfo made
    made.number = info.number
    made.size = info.size
    made.entries = info.entries
    made.tombstones = info.tombstones
    made.ranges = info.ranges
    made.max_sequence = info.max_sequence
    made.checksum = info.checksum
    made.first = info.first
    made.last = info.last
    made.references = info.references
    return made


cdef object _from_info(CTableInfo info):
    return _TableInfo(
        info.number, info.size, info.entries, info.tombstones, info.ranges, info.max_sequence,
        info.checksum, info.first, info.last, tuple(info.references),
    )


cdef MergeOptions _to_options(output, values) except *:
    cdef MergeOptions made
    options = output.options
    made.table.table_bytes = options.table_bytes
    made.table.block_bytes = options.block_bytes
    made.table.codec = options.codec
    made.table.level = options.level
    made.table.bits_per_key = options.bits_per_key
    made.table.separate_bytes = options.separate_bytes
    made.max_sequence = output.max_sequence
    made.pause_bytes = output.pause_bytes
    made.drop_tombstones = output.drop_tombstones
    for number in output.relocate:
        made.relocate.insert(number)
    made.values = _to_files(values)
    return made


cdef cmap[uint64_t, CValueFile*] _to_files(values) except *:
    cdef cmap[uint64_t, CValueFile*] made
    for number, file in values.items():
        made[number] = (<ValueFile?>file).core.get()
    return made


cdef object _to_ranges(RangeTombstones ranges):
    return _Ranges([<bytes>one.start for one in ranges], [<bytes>one.stop for one in ranges])


cdef object _to_problems(vector[CProblem] problems):
    return iter([
        _Problem(_os.fsdecode(problem.path), problem.offset, problem.reason.decode())
        for problem in problems
    ])


def _bind():
    global murmur_corruption, murmur_checksum_mismatch, murmur_unknown_format
    global murmur_closed, murmur_invalid_input
    # They stay as long as the process does.
    for error in (
        _errors.Corruption, _errors.ChecksumMismatch, _errors.UnknownFormat, _errors.Closed,
        _errors.InvalidInput,
    ):
        Py_INCREF(error)
    murmur_corruption = <PyObject*>_errors.Corruption
    murmur_checksum_mismatch = <PyObject*>_errors.ChecksumMismatch
    murmur_unknown_format = <PyObject*>_errors.UnknownFormat
    murmur_closed = <PyObject*>_errors.Closed
    murmur_invalid_input = <PyObject*>_errors.InvalidInput
    cdef BlockingHooks hooks
    hooks.enter = release_interpreter
    hooks.leave = take_interpreter
    set_blocking_hooks(hooks)
    set_loader(_load_codec)


_bind()
