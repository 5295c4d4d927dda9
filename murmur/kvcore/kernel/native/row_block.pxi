# Rows many at a time: row_block.hpp and row_columns.hpp for Python. See kernel/pure/row_block.py.
#
# Rows of Python values are encoded with the interpreter's lock held, columns without it; a block
# never changes, so that any number of threads may read it.

from cpython.bool cimport PyBool_Check
from cpython.buffer cimport PyBuffer_FillInfo
from cpython.bytes cimport PyBytes_CheckExact
from cpython.list cimport PyList_CheckExact
from cpython.tuple cimport PyTuple_CheckExact, PyTuple_GET_ITEM, PyTuple_GET_SIZE
from libc.string cimport memchr

from murmur.kvcore.kernel.block_plan import BadValue as _BadValue


cdef extern from "row_block.hpp" namespace "murmur" nogil:
    size_t NO_ROW
    cdef enum class EntryKind(uint8_t):
        Index
        Claim
        Child
        Parent
    cdef cppclass CEntryPlan "murmur::EntryPlan":
        CEntryPlan()
        EntryKind kind
        string prefix
        vector[size_t] columns
        vector[CKeyColumn] keys
    cdef cppclass CBlockPlan "murmur::BlockPlan":
        CBlockPlan()
        vector[uint32_t] fields
        vector[uint32_t] counters
        string prefix
        vector[size_t] key_columns
        vector[CKeyColumn] keys
        vector[CEntryPlan] entries
    cdef struct RowAuthor:
        uint64_t stamp
        uint8_t replica[8]
        uint64_t seq
    cdef cppclass BlockString "murmur::ByteString":
        BlockString()
        Slice slice()
    cdef cppclass BlockKeys "murmur::Vector<murmur::EncodedKeys::Key>":
        size_t size()
    cdef cppclass EncodedKeys:
        cppclass Key:
            uint32_t size
            uint32_t values
        BlockKeys keys
        Slice key(size_t)
    cdef cppclass BlockOperations "murmur::Vector<murmur::Operation>":
        BlockOperations()
        size_t size()
        const Operation* data()
        const Operation& operator[](size_t)
        void push_back(const Operation&) except +
        void reserve(size_t) except +
    cdef cppclass CRowBlock "murmur::RowBlock":
        size_t count()
        size_t bytes()
        const string& prefix()
        void key(size_t, BlockString&) except +translate_error
        void body(size_t, BlockString&) except +translate_error
        size_t place(size_t)
        size_t find(Slice)
        cbool touches(Slice, Slice, cbool)
        size_t repeated()
        void operation_head(BlockString&) except +translate_error
        Slice rows()
        void cell(size_t, const RowAuthor&, BlockString&) except +translate_error
        void writes(const RowAuthor&, BlockString&, BlockOperations&) except +translate_error
        size_t plans()
        EntryKind kind(size_t)
        const EncodedKeys& entries(size_t)
        size_t asked_count(size_t)
        Slice asked(size_t, size_t)
        size_t asked_row(size_t, size_t)
        size_t reclaimed(size_t)
        size_t claim_of(size_t, Slice)
        size_t present_key(const CReads&, uint64_t) except +translate_error
        size_t present_claim(size_t, const CReads&, uint64_t) except +translate_error
        size_t shared_key(const CRowBlock&)
        size_t shared_claim(size_t, const CRowBlock&)
    cdef cppclass CRowEncoder "murmur::RowEncoder":
        CRowEncoder(CBlockPlan) except +translate_error
        void null() except +translate_error
        void boolean(cbool) except +translate_error
        void integer(int64_t) except +translate_error
        void unsigned_integer(uint64_t) except +translate_error
        void floating(double) except +translate_error
        void text(Slice) except +translate_error
        void binary(Slice) except +translate_error
        cbool atom(Slice) except +translate_error
        cbool end(Slice) except +translate_error
        void drop()
        size_t columns()
        size_t count()
        size_t bytes()
        void last_body(BlockString&) except +translate_error
        unique_ptr[CRowBlock] finish() except +translate_error


cdef extern from "row_run.hpp" namespace "murmur" nogil:
    cdef cppclass LoadedBlocks:
        LoadedBlocks()
        void add "emplace_back"(const CRowBlock*, RowAuthor) except +
    cdef cppclass CRowRun "murmur::RowRun"(CSortedRun):
        CRowRun(const LoadedBlocks&) except +translate_error
    cdef cppclass CEntryRun "murmur::EntryRun"(CSortedRun):
        CEntryRun(LoadedBlocks, size_t) except +


cdef extern from "row_columns.hpp" namespace "murmur" nogil:
    cdef enum class Form(uint8_t):
        Null
    cdef cppclass CColumnSource "murmur::ColumnSource":
        CColumnSource()
        Form form
        uint32_t width
        size_t offset
        Slice validity
        Slice offsets
        Slice values
    cdef cppclass CColumnRule "murmur::ColumnRule":
        CColumnRule()
        cbool nullable
        cbool counter
        int64_t bias
        int64_t low
        int64_t high
        cbool finite
        uint32_t precision
        uint32_t scale
        cbool shortest
        uint32_t longest
    cdef cppclass CBadValue "murmur::BadValue":
        CBadValue()
        size_t row
        size_t column
        const char* reason
    CBadValue encode_columns(CRowEncoder&, const vector[CColumnSource]&, const vector[CColumnRule]&,
                             size_t, size_t, Slice) except +translate_error


cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object, Py_ssize_t*) except NULL
    Py_ssize_t PyUnicode_GET_LENGTH(object)


cdef struct RowField:
    int kind  # that has plain values; 0: none
    Py_ssize_t position
    cbool nullable
    cbool constant
    int64_t low
    int64_t high
    Py_ssize_t longest


cdef vector[CKeyColumn] block_keys(parts, vector[size_t]* columns) except *:
    cdef vector[CKeyColumn] keys
    cdef vector[CFieldSpec] specs = rows_specs([part.field for part in parts])
    cdef CKeyColumn key
    cdef size_t at
    for at in range(specs.size()):
        key.field = specs[at]
        key.descending = parts[at].descending
        keys.push_back(key)
        columns.push_back(parts[at].column)
    return keys


cdef Slice block_bytes(bytes data):
    return Slice(PyBytes_AS_STRING(data), <size_t>PyBytes_GET_SIZE(data))


cdef object block_object(Slice slice):
    return PyBytes_FromStringAndSize(<const char*>slice.data, slice.size)


cdef object block_row(size_t row):
    return None if row == NO_ROW else row


cdef RowAuthor block_author(uint64_t stamp, bytes replica, uint64_t seq) except *:
    cdef RowAuthor author
    if len(replica) != 8:
        raise ValueError("a replica id has 8 bytes")
    author.stamp = stamp
    author.seq = seq
    memcpy(author.replica, PyBytes_AS_STRING(replica), 8)
    return author


cdef class RowEncoder:
    """Encodes rows of one plan. See murmur.kvcore.kernel.pure.row_block.RowEncoder."""

    cdef unique_ptr[CRowEncoder] core
    cdef vector[RowField] fields
    cdef tuple converts
    cdef tuple constants
    cdef Py_ssize_t width
    cdef size_t length
    cdef cbool keyed
    cdef cbool busy

    def __cinit__(self, plan):
        cdef CBlockPlan core
        cdef CEntryPlan own
        core.fields = plan.fields
        core.counters = plan.counters
        core.prefix = plan.prefix
        core.keys = block_keys(plan.parts, &core.key_columns)
        for entry in plan.entries:
            own.kind = <EntryKind><int>entry.kind
            own.prefix = entry.prefix
            own.columns.clear()
            own.keys = block_keys(entry.parts, &own.columns)
            core.entries.push_back(own)
        self.keyed = bool(plan.parts)
        self.core.reset(new CRowEncoder(core))
        self.length = self.core.get().columns()
        self.converts = self.constants = ()

    @property
    def count(self):
        """How many rows were added."""
        return self.core.get().count()

    @property
    def size(self):
        """What they take in an operation."""
        return self.core.get().bytes()

    def bind(self, sources, Py_ssize_t width):
        """Say what `add_rows` will be given: rows of so many values, and a source a column."""
        cdef RowField one
        self.begin()
        try:
            sources = tuple(sources)
            if <size_t>len(sources) != self.length:
                raise _InvalidInput("a source for each column is needed")
            self.fields.clear()
            for source in sources:
                if source.position >= width:
                    raise _InvalidInput("a source asks for a value that rows do not have")
                field = source.field
                one.kind = field.kind if source.plain else 0
                one.position = source.position
                one.nullable = source.nullable
                one.constant = source.constant is not None
                one.low = field.low
                one.high = field.high
                one.longest = source.longest
                self.fields.push_back(one)
            self.converts = tuple([source.convert for source in sources])
            self.constants = tuple([source.constant for source in sources])
            self.width = width
        finally:
            self.busy = False

    def add_rows(self, list rows not None, arrange=None, make_id=None):
        """Add rows."""
        cdef object row
        cdef bytes row_id
        cdef size_t at
        cdef Slice none
        self.begin()
        try:
            if self.fields.size() != self.length:
                raise _InvalidInput("bind says first what rows hold")
            for row in tuple(rows):  # nobody takes a row away meanwhile
                if PyList_CheckExact(row):
                    row = tuple(row)
                if not PyTuple_CheckExact(row) or PyTuple_GET_SIZE(row) != self.width:
                    row = tuple(arrange(row)) if arrange is not None else row
                    if not PyTuple_CheckExact(row) or PyTuple_GET_SIZE(row) != self.width:
                        raise _InvalidInput(f"a row has {self.width} values")
                for at in range(self.length):
                    self.put(at, <tuple>row)
                if make_id is None:
                    self.end(none)
                else:
                    row_id = make_id()
                    self.end(block_bytes(row_id))
        except:
            self.core.get().drop()
            raise
        finally:
            self.busy = False

    def add_columns(self, size_t count, sources, bytes row_ids=b"", size_t first=0):
        """Add the rows from `first` on, of columns. Raises BadValue, with the rows before in."""
        cdef vector[CColumnSource] given
        cdef vector[CColumnRule] rules
        cdef CColumnSource one
        cdef CColumnRule rule
        cdef CBadValue bad
        cdef Slice ids = block_bytes(row_ids)
        kept = []
        self.begin()
        try:
            for source in tuple(sources):
                one.form = <Form><int>source.form
                one.offset = source.offset
                one.width = source.width
                one.validity = self.buffer(source.validity, kept)
                one.offsets = self.buffer(source.offsets, kept)
                one.values = self.buffer(source.values, kept)
                given.push_back(one)
                rule.nullable = source.nullable
                rule.counter = source.counter
                rule.bias = source.bias
                rule.low = source.low
                rule.high = source.high
                rule.finite = source.finite
                rule.precision = source.precision
                rule.scale = source.scale
                rule.shortest = source.shortest
                rule.longest = source.longest
                rules.push_back(rule)
            if count >> 40 or first >> 40:
                raise _InvalidInput("too many rows")
            with nogil:
                bad = encode_columns(self.core.get()[0], given, rules, first, count, ids)
            if bad.reason != NULL:
                raise _BadValue(bad.row, bad.column, bad.reason.decode())
        except:
            self.core.get().drop()
            raise
        finally:
            self.busy = False

    def last_body(self):
        """The body of the row that was added last."""
        cdef BlockString out
        if self.core.get().count() == 0:
            raise IndexError("there is no row")
        self.core.get().last_body(out)
        return block_object(out.slice())

    def finish(self):
        """The rows that were added; the encoder goes on with none."""
        cdef RowBlock block = RowBlock.__new__(RowBlock)
        cdef unique_ptr[CRowBlock] core
        self.begin()
        try:
            with nogil:
                core = self.core.get().finish()
            block.core = move(core)
        finally:
            self.busy = False
        return block

    cdef int begin(self) except -1:
        if self.busy:
            raise RuntimeError("the encoder is in use")
        self.busy = True
        return 0

    cdef Slice buffer(self, owner, list kept) except *:
        cdef RowsBytes held
        if owner is None:
            return Slice()
        held = RowsBytes(owner)
        kept.append(held)
        return Slice(held.data, held.size)

    cdef int end(self, Slice row_id) except -1:
        if not self.core.get().end(row_id):
            raise _InvalidInput("a value is not of its key's column")
        return 0

    cdef int put(self, size_t at, tuple row) except -1:
        cdef RowField* field = &self.fields[at]
        cdef CRowEncoder* core = self.core.get()
        cdef PyObject* item
        cdef int overflow = 0
        cdef int64_t number
        cdef Py_ssize_t size = 0
        cdef const char* text
        if field.position < 0:
            if field.constant:
                if not core.atom(block_bytes(self.constants[at])):
                    raise ValueError("a constant is not msgpack of one atom")
                return 0
            return self.convert(at, None)
        item = PyTuple_GET_ITEM(row, field.position)
        if item == <PyObject*>None:
            if field.nullable:
                core.null()
                return 0
        elif field.kind == KEY_INTEGER:
            if PyLong_CheckExact(<object>item):
                number = PyLong_AsLongLongAndOverflow(<object>item, &overflow)
                if not overflow and field.low <= number <= field.high:
                    core.integer(number)
                    return 0
        elif field.kind == KEY_TEXT:
            if PyUnicode_CheckExact(<object>item) and (
                field.longest == 0 or PyUnicode_GET_LENGTH(<object>item) <= field.longest
            ):
                try:
                    text = PyUnicode_AsUTF8AndSize(<object>item, &size)
                except UnicodeEncodeError:
                    return self.convert(at, <object>item)  # which tells of the surrogate
                if size == 0 or memchr(text, 0, size) == NULL:
                    core.text(Slice(text, size))
                    return 0
        elif field.kind == KEY_FLOAT:
            if PyFloat_CheckExact(<object>item):
                core.floating(PyFloat_AS_DOUBLE(<object>item))
                return 0
        elif field.kind == KEY_BOOLEAN:
            if PyBool_Check(<object>item):
                core.boolean(<object>item is True)
                return 0
        elif field.kind == KEY_BINARY:
            if PyBytes_CheckExact(<object>item):
                core.binary(block_bytes(<bytes>item))
                return 0
        return self.convert(at, <object>item)

    cdef int convert(self, size_t at, value) except -1:
        """An atom that Python makes of a value; meanwhile nobody else is in the encoder."""
        atom = self.converts[at](value)
        cdef CRowEncoder* core = self.core.get()
        cdef int overflow = 0
        cdef int64_t number
        cdef Py_ssize_t size = 0
        cdef const char* text
        if atom is None:
            core.null()
        elif PyBool_Check(atom):
            core.boolean(atom is True)
        elif PyLong_CheckExact(atom):
            number = PyLong_AsLongLongAndOverflow(atom, &overflow)
            if overflow:
                core.unsigned_integer(PyLong_AsUnsignedLongLong(atom))
            else:
                core.integer(number)
        elif PyFloat_CheckExact(atom):
            core.floating(PyFloat_AS_DOUBLE(atom))
        elif PyUnicode_CheckExact(atom):
            text = PyUnicode_AsUTF8AndSize(atom, &size)
            core.text(Slice(text, size))
        elif PyBytes_CheckExact(atom):
            core.binary(block_bytes(atom))
        else:
            raise TypeError(f"a {type(atom).__name__} is no atom")
        return 0


cdef class RowBlock:
    """Rows in the order of their keys. See murmur.kvcore.kernel.pure.row_block.RowBlock."""

    cdef unique_ptr[CRowBlock] core

    @property
    def count(self):
        """How many rows there are."""
        return self.core.get().count()

    @property
    def size(self):
        """What they take in an operation."""
        return self.core.get().bytes()

    @property
    def prefix(self):
        """What all keys begin with."""
        return self.core.get().prefix()

    def key(self, size_t row):
        """The key of a row."""
        cdef BlockString out
        self.core.get().key(self.checked(row), out)
        return block_object(out.slice())

    def body(self, size_t row):
        """What the row's own INSERT would hold."""
        cdef BlockString out
        self.core.get().body(self.checked(row), out)
        return block_object(out.slice())

    def place(self, size_t row):
        """Which row it was as they came."""
        return self.core.get().place(self.checked(row))

    def row_at(self, size_t place):
        """The row that came there."""
        for row in range(self.core.get().count()):
            if self.core.get().place(row) == place:
                return row
        raise ValueError(f"no row came at {place}")

    @property
    def repeated(self):
        """The place of the first row that has the key of one before it."""
        return block_row(self.core.get().repeated())

    def find(self, bytes key not None):
        """The row with this key."""
        return block_row(self.core.get().find(block_bytes(key)))

    def touches(self, bytes start not None, bytes stop):
        """Whether there may be a row or an entry with start <= key < stop."""
        cdef Slice last
        if stop is not None:
            last = block_bytes(stop)
        return self.core.get().touches(block_bytes(start), last, stop is not None)

    def operations(self):
        """The operation that inserts all rows; nothing if there is none."""
        return b"".join(self.pieces())

    def pieces(self):
        """The operation, in pieces that are not copied."""
        cdef BlockString out
        self.core.get().operation_head(out)
        return (block_object(out.slice()), memoryview(self)) if out.slice().size else ()

    def __getbuffer__(self, Py_buffer* buffer, int flags):
        cdef Slice rows = self.core.get().rows()
        PyBuffer_FillInfo(buffer, self, <void*>rows.data, <Py_ssize_t>rows.size, 1, flags)

    def cell(self, size_t row, uint64_t stamp, bytes replica not None, uint64_t seq):
        """What the tree holds of a row once it is committed with this stamp and dot."""
        cdef BlockString out
        self.core.get().cell(self.checked(row), block_author(stamp, replica, seq), out)
        return block_object(out.slice())

    def pairs(self, uint64_t stamp, bytes replica not None, uint64_t seq):
        """Cells in key order, and then the entries."""
        cdef BlockString cells
        cdef BlockOperations writes
        cdef size_t at
        self.core.get().writes(block_author(stamp, replica, seq), cells, writes)
        pairs = []
        for at in range(writes.size()):
            pairs.append((block_object(writes[at].key), block_object(writes[at].value)))
        return pairs

    def asked(self, size_t plan):
        """Claims, ascending; parents likewise, each once."""
        cdef size_t at
        self.planned(plan)
        asked = []
        for at in range(self.core.get().asked_count(plan)):
            asked.append(block_object(self.core.get().asked(plan, at)))
        return asked

    def asker(self, size_t plan, size_t at):
        """The place of the row that makes this claim."""
        self.planned(plan)
        if at >= self.core.get().asked_count(plan):
            raise IndexError(f"there is no claim {at}")
        return self.core.get().asked_row(plan, at)

    def reclaimed(self, size_t plan):
        """The place of the first row whose claim one before it has."""
        self.planned(plan)
        return block_row(self.core.get().reclaimed(plan))

    def claim_of(self, size_t plan, bytes key not None):
        """Which claim begins this key."""
        self.planned(plan)
        return block_row(self.core.get().claim_of(plan, block_bytes(key)))

    def first_of(self, keys):
        """One of these keys that a row has, or that begins with a claim."""
        cdef CRowBlock* core = self.core.get()
        cdef size_t plan
        cdef bytes key
        for key in keys:
            if core.find(block_bytes(key)) != NO_ROW:
                return key
            for plan in range(core.plans()):
                if core.kind(plan) == EntryKind.Claim and core.claim_of(plan, block_bytes(key)) != NO_ROW:
                    return key
        return None

    def present(self, plan, Reads reads not None, uint64_t sequence):
        """The first row, or claim of a plan, whose key or values the tree has already."""
        cdef size_t number = 0, found
        cdef cbool keys = plan is None
        if not keys:
            number = plan
            self.planned(number)
        with nogil:
            if keys:
                found = self.core.get().present_key(reads.core, sequence)
            else:
                found = self.core.get().present_claim(number, reads.core, sequence)
        return block_row(found)

    def shared(self, plan, RowBlock other not None):
        """The first row, or claim of a plan, that another block of this plan has too."""
        cdef size_t number
        if plan is None:
            return block_row(self.core.get().shared_key(other.core.get()[0]))
        number = plan
        self.planned(number)
        other.planned(number)
        return block_row(self.core.get().shared_claim(number, other.core.get()[0]))

    cdef size_t checked(self, size_t row) except? 0:
        if row >= self.core.get().count():
            raise IndexError(f"there is no row {row}")
        return row

    cdef int planned(self, size_t plan) except -1:
        if plan >= self.core.get().plans():
            raise IndexError(f"there is no entry {plan}")
        return 0


cdef class Run(Source):
    """Loaded blocks of one plan in key order, for readers and as a source of tables: cells, or the
    entries of one plan. Stands among memtables."""

    cdef unique_ptr[CSortedRun] core
    cdef tuple kept

    def __cinit__(self, loads, plan=None):
        cdef LoadedBlocks blocks
        cdef RowBlock block
        self.kept = tuple(loads)
        for given, stamp, replica, seq in self.kept:
            block = given
            if plan is not None:
                block.planned(plan)
            blocks.add(block.core.get(), block_author(stamp, replica, seq))
        if plan is None:
            self.core.reset(new CRowRun(blocks))
        else:
            self.core.reset(new CEntryRun(blocks, plan))

    cdef const CEntrySource* entry_source(self) except NULL:
        return self.core.get()

    cdef const CSortedRun* sorted_run(self) noexcept:
        return self.core.get()

    @property
    def bytes(self):
        """What the rows, or the entries, take in memory."""
        return self.core.get().bytes()

    def freeze(self, uint64_t published):
        """As of a memtable: nothing was ever applied."""


def runs_of(loads):
    """What loaded blocks, each with stamp, replica and seq, bring into the tree, as sources of
    tables: disjoint, and none of them empty."""
    cdef RowBlock block
    cdef size_t plan
    tables = {}
    for load in loads:
        block = load[0]
        if block.core.get().count():
            tables.setdefault(block.prefix, []).append(load)
    runs = []
    for some in tables.values():
        runs.extend([Run(part) for part in parts_of(some)])
        block = some[0][0]
        for plan in range(block.core.get().plans()):
            if block.core.get().kind(plan) == EntryKind.Parent:
                continue
            if any([has_entries(load[0], plan) for load in some]):
                runs.append(Run(some, plan))
    return runs


cdef list parts_of(list loads):
    """The loads in two parts of about as many rows, if no key of one lies among those of the other:
    tables of them are made at once."""
    loads = sorted(loads, key=lambda load: load[0].key(0))
    last = [load[0].key(load[0].count - 1) for load in loads]
    rows = sum([load[0].count for load in loads])
    before = 0
    for at in range(1, len(loads)):
        before += loads[at - 1][0].count
        if 2 * before >= rows and max(last[:at]) < loads[at][0].key(0):
            return [loads[:at], loads[at:]]
    return [loads]


cdef bint has_entries(RowBlock block, size_t plan) except -1:
    return block.core.get().entries(plan).keys.size() > 0


def apply_blocks(Memtable memtable not None, uint64_t sequence, entries, blocks, pinned=()):
    """Write entries and blocks, each with its stamp, replica and seq, as one batch."""
    cdef PyObject* kept = NULL
    cdef BlockOperations writes
    cdef BlockString cells
    cdef vector[BlockString] held
    cdef RowBlock block
    cdef size_t at = 0
    blocks = tuple(blocks)
    held.resize(len(blocks))  # at once: what they hold is pointed to
    try:
        kept = PySequence_Fast(entries, "a batch is a sequence of entries")
        memtable.operations.clear()
        memtable._read_entries(kept)
        writes.reserve(memtable.operations.size())
        for at in range(memtable.operations.size()):
            writes.push_back(memtable.operations[at])
        for number, (given, stamp, replica, seq) in enumerate(blocks):
            block = given
            at = number
            block.core.get().writes(block_author(stamp, replica, seq), held[at], writes)
        memtable.core.get().apply(sequence, writes.data(), writes.size(), NULL, 0)
    finally:
        if kept != NULL:
            Py_DECREF(<object>kept)
        if memtable.operations.capacity() > _SPARE:
            memtable.operations = vector[Operation]()
