# Records to Arrow columns and to tuples: rows.hpp and columns.hpp for Python.

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE, PyBytes_FromStringAndSize
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_New
from cpython.ref cimport Py_INCREF, PyObject
from cpython.dict cimport PyDict_GetItemWithError
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_New, PyTuple_SET_ITEM
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libcpp cimport bool as cbool
from libcpp.memory cimport shared_ptr
from libcpp.string cimport string
from libcpp.utility cimport move
from libcpp.vector cimport vector

import msgpack as _msgpack

from murmur.errors import Corruption as _Corruption


cdef extern from "arrow.hpp" nogil:
    cdef struct ArrowSchema:
        void (*release)(ArrowSchema*)
    cdef struct ArrowArray:
        void (*release)(ArrowArray*)


cdef extern from "msgpack.hpp" namespace "murmur::msgpack" nogil:
    const uint8_t* classes "murmur::msgpack::CLASSES.data()"
    cdef enum AtomClass "murmur::msgpack::Class":
        NIL_ATOM "murmur::msgpack::NIL"
        BOOL_ATOM "murmur::msgpack::BOOL"
        INT_ATOM "murmur::msgpack::INT"
        FLOAT_ATOM "murmur::msgpack::FLOAT"
        TEXT_ATOM "murmur::msgpack::TEXT"
        BINARY_ATOM "murmur::msgpack::BINARY"
    cbool read_int "murmur::msgpack::read_int"(const uint8_t*, int64_t&)
    double read_float "murmur::msgpack::read_float"(const uint8_t*)
    const uint8_t* read_bytes "murmur::msgpack::read_bytes"(const uint8_t*, size_t&)


cdef extern from "rows.hpp" namespace "murmur" nogil:
    cdef enum class FieldKind(uint8_t):
        Boolean
    cdef cppclass CFieldSpec "murmur::FieldSpec":
        uint32_t id
        FieldKind kind
        string format
        string missing
        uint32_t width
        int64_t bias
        int64_t low
        int64_t high
        uint32_t precision
        uint32_t scale
        cbool shortest
    cdef cppclass BadCell:
        size_t cell
        size_t offset
        const char* reason
    cdef cppclass Finder:
        Finder(const vector[CFieldSpec]&) except +
        BadCell look(const uint8_t*, size_t, const uint8_t**) except +
        void forget()


cdef extern from "columns.hpp" namespace "murmur" nogil:
    cdef cppclass CColumn "murmur::Column":
        string format
        int64_t length
    ctypedef vector[shared_ptr[CColumn]] Batch
    cbool holds(const CFieldSpec&, const uint8_t*)
    void export_array(const shared_ptr[CColumn]&, ArrowArray*) except +
    void export_schema(const string&, ArrowSchema*) except +
    cdef cppclass CColumnReader "murmur::ColumnReader":
        CColumnReader(vector[CFieldSpec]) except +
        BadCell add(const uint8_t*, size_t, const uint8_t*, size_t) except +
        BadCell add(const uint8_t* const*, const size_t*, size_t) except +
        vector[Batch] take() except +


cdef vector[CFieldSpec] rows_specs(fields) except *:
    cdef vector[CFieldSpec] specs
    cdef CFieldSpec spec
    for field in fields:
        spec.id = field.id
        spec.kind = <FieldKind><int>field.kind
        spec.format = field.format.encode()
        spec.missing = _msgpack.packb(field.missing)
        spec.width = field.width
        spec.bias = field.bias
        spec.low = field.low
        spec.high = field.high
        spec.precision = field.precision
        spec.scale = field.scale
        spec.shortest = field.shortest
        specs.push_back(spec)
    return specs


cdef class RowsBytes:
    """The bytes of an object, for as long as this lives."""

    cdef Py_buffer buffer
    cdef const uint8_t* data
    cdef size_t size

    def __cinit__(self, owner):
        PyObject_GetBuffer(owner, &self.buffer, PyBUF_SIMPLE)
        self.data = <const uint8_t*>self.buffer.buf
        self.size = self.buffer.len

    def __dealloc__(self):
        PyBuffer_Release(&self.buffer)


cdef void rows_release_schema(object capsule) noexcept:
    cdef ArrowSchema* schema = <ArrowSchema*>PyCapsule_GetPointer(capsule, "arrow_schema")
    if schema.release != NULL:  # else somebody has taken what is in it
        schema.release(schema)
    free(schema)


cdef void rows_release_array(object capsule) noexcept:
    cdef ArrowArray* array = <ArrowArray*>PyCapsule_GetPointer(capsule, "arrow_array")
    if array.release != NULL:
        array.release(array)
    free(array)


cdef class ArrowColumn:
    """One column of one batch: whatever reads Arrow takes it, `pyarrow.array(column)`."""

    cdef shared_ptr[CColumn] column

    def __len__(self):
        return self.column.get().length

    def __arrow_c_schema__(self):
        cdef ArrowSchema* schema = <ArrowSchema*>malloc(sizeof(ArrowSchema))
        if schema == NULL:
            raise MemoryError
        try:
            export_schema(self.column.get().format, schema)
        except:
            free(schema)
            raise
        return PyCapsule_New(schema, "arrow_schema", rows_release_schema)

    def __arrow_c_array__(self, requested_schema=None):
        schema = self.__arrow_c_schema__()
        cdef ArrowArray* array = <ArrowArray*>malloc(sizeof(ArrowArray))
        if array == NULL:
            raise MemoryError
        try:
            export_array(self.column, array)
        except:
            free(array)
            raise
        return schema, PyCapsule_New(array, "arrow_array", rows_release_array)


cdef class ColumnReader:
    """Makes Arrow columns of records. See murmur.kvcore.kernel.pure.rows.ColumnReader."""

    cdef CColumnReader* reader
    cdef bint ended  # by an error, or while another thread adds

    def __cinit__(self, fields):
        self.reader = new CColumnReader(rows_specs(fields))

    def __dealloc__(self):
        del self.reader

    cdef begin(self):
        if self.ended:
            raise RuntimeError("the reader is in use, or gave an error before")
        self.ended = True

    def add(self, chunk):
        """Add the records in a chunk of a table's rows. Raises Corruption."""
        cdef RowsBytes values = RowsBytes(chunk.values)
        cdef RowsBytes offsets = RowsBytes(chunk.value_offsets)
        cdef size_t count = chunk.count
        cdef BadCell bad
        if offsets.size < 4 * (count + 1):
            raise ValueError("a chunk has an offset more than values")
        self.begin()
        with nogil:
            bad = self.reader.add(values.data, values.size, offsets.data, count)
        if bad.reason != NULL:
            raise rows_corruption(rows_key(chunk, bad.cell), bad)
        self.ended = False

    def add_cells(self, list cells not None):
        """Add records. Raises Corruption."""
        cdef size_t count = len(cells), at
        cdef vector[const uint8_t*] starts
        cdef vector[size_t] sizes
        cdef BadCell bad
        cdef object cell
        kept = list(cells)  # nobody takes a cell away meanwhile
        starts.reserve(count)
        sizes.reserve(count)
        for cell in kept:
            if type(cell) is not bytes:
                raise TypeError("a cell is bytes")
            starts.push_back(<const uint8_t*>PyBytes_AS_STRING(cell))
            sizes.push_back(PyBytes_GET_SIZE(cell))
        self.begin()
        with nogil:
            bad = self.reader.add(starts.data(), sizes.data(), count)
        if bad.reason != NULL:
            raise rows_corruption(f"cell {bad.cell}", bad)
        self.ended = False

    def take(self):
        """What was added since the last time: batches, each an ArrowColumn for each field."""
        cdef vector[Batch] batches
        cdef size_t at, field
        cdef ArrowColumn column
        self.begin()
        batches = self.reader.take()
        self.ended = False
        taken = []
        for at in range(batches.size()):
            columns = []
            for field in range(batches[at].size()):
                column = ArrowColumn.__new__(ArrowColumn)
                column.column = batches[at][field]
                columns.append(column)
            taken.append(tuple(columns))
        return taken


cdef rows_corruption(str path, BadCell& bad):
    return _Corruption(path, bad.offset, f"not a record: {bad.reason.decode()}")


cdef str rows_key(chunk, size_t at):
    offsets = memoryview(chunk.key_offsets).cast("B").cast("I")
    return f"key {bytes(memoryview(chunk.keys)[offsets[at] : offsets[at + 1]]).hex()}"


cdef object rows_atom(const uint8_t* atom):
    """The Python object of an atom; UnicodeDecodeError if its text is none."""
    cdef int64_t whole = 0
    cdef size_t size = 0
    cdef const uint8_t* start
    cdef uint8_t kind = classes[atom[0]]
    if kind == TEXT_ATOM:
        start = read_bytes(atom, size)
        return PyUnicode_DecodeUTF8(<const char*>start, size, NULL)
    if kind == INT_ATOM:
        if read_int(atom, whole):
            return whole
        return <uint64_t>whole
    if kind == FLOAT_ATOM:
        return read_float(atom)
    if kind == BINARY_ATOM:
        start = read_bytes(atom, size)
        return PyBytes_FromStringAndSize(<const char*>start, size)
    if kind == BOOL_ATOM:
        return atom[0] == 0xC3
    return None


cdef class RowReader:
    """Makes tuples of records. See murmur.kvcore.kernel.pure.rows.RowReader."""

    cdef Finder* finder
    cdef vector[const uint8_t*] slots
    cdef vector[CFieldSpec] specs

    def __cinit__(self, fields):
        self.specs = rows_specs(fields)
        self.finder = new Finder(self.specs)
        self.slots.resize(self.specs.size())

    def __dealloc__(self):
        del self.finder

    def __call__(self, bytes cell not None):
        """The atoms of a record, None if a column could not hold one. Raises Corruption."""
        cdef BadCell bad
        cdef size_t at, count = self.slots.size()
        cdef object atom
        # Here and nowhere below the garbage collector may run, and with it somebody who calls this.
        cdef tuple row = PyTuple_New(count)
        self.finder.forget()
        bad = self.finder.look(
            <const uint8_t*>PyBytes_AS_STRING(cell), PyBytes_GET_SIZE(cell), self.slots.data()
        )
        if bad.reason != NULL:
            raise rows_corruption("cell", bad)
        for at in range(count):
            if not holds(self.specs[at], self.slots[at]):
                return None
        try:
            for at in range(count):
                atom = rows_atom(self.slots[at])
                Py_INCREF(atom)
                PyTuple_SET_ITEM(row, at, atom)
        except UnicodeDecodeError as error:
            raise _Corruption("cell", 0, f"not a record: a text is not UTF-8: {error}") from None
        return row
