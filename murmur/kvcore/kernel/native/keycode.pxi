# Atoms as keys that sort as they do: keycode.hpp for Python.

from cpython.bytes cimport PyBytes_CheckExact
from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_CheckExact
from cpython.long cimport PyLong_AsLongLongAndOverflow, PyLong_AsUnsignedLongLong, PyLong_CheckExact
from cpython.unicode cimport PyUnicode_AsUTF8AndSize, PyUnicode_CheckExact


cdef extern from "keycode.hpp" namespace "murmur" nogil:
    cdef cppclass KeySlice "murmur::Slice":
        KeySlice()
        KeySlice(const char*, size_t)
        const uint8_t* data
        size_t size
    cdef cppclass KeyString "murmur::ByteString":
        KeySlice slice()
    cdef cppclass CKeyColumn "murmur::KeyColumn":
        CFieldSpec field
        cbool descending
    cdef cppclass KeyWriter:
        KeyWriter(vector[CKeyColumn]) except +
        void begin(KeySlice) except +
        void null() except +
        void boolean(cbool) except +
        cbool integer(int64_t) except +
        cbool unsigned_integer(uint64_t) except +
        void floating(double) except +
        cbool decimal(KeySlice) except +
        void bytes(KeySlice) except +
        cbool fixed(KeySlice) except +
        void interval(int64_t) except +
        cbool interval(KeySlice) except +
        KeySlice slice()
    cdef cppclass KeyValue:
        cbool null
        cbool truth
        int64_t number
        double floating
    cdef cppclass BadKey:
        size_t offset
        const char* reason
    cdef cppclass KeyReader:
        KeyReader(vector[CKeyColumn]) except +
        BadKey read(KeySlice) except +
        const KeyValue& operator[](size_t)
        KeySlice bytes_of(size_t)


cdef extern from *:
    """
    #include "text.hpp"

    static inline void key_decimal_of(const murmur::KeyReader& reader, size_t at,
                                      murmur::ByteString& out) {
      const murmur::FieldSpec& field = reader.columns()[at].field;
      murmur::format_decimal(reader[at].decimal, field.scale, field.shortest, out);
    }
    """
    void key_decimal_of(const KeyReader&, size_t, KeyString&) except +


cdef enum:
    KEY_BOOLEAN = 1
    KEY_INTEGER = 2
    KEY_FLOAT = 3
    KEY_DECIMAL = 4
    KEY_TEXT = 5
    KEY_BINARY = 6
    KEY_FIXED = 7
    KEY_UUID = 8
    KEY_INTERVAL = 9


cdef class KeyCodec:
    """Makes keys of atoms, and atoms of keys. See murmur.kvcore.kernel.pure.keycode.KeyCodec."""

    cdef KeyWriter* writer
    cdef KeyReader* reader
    cdef vector[int] kinds
    cdef tuple ids
    cdef tuple missing

    def __cinit__(self, fields, descending=()):
        cdef vector[CFieldSpec] specs = rows_specs(fields)
        cdef vector[CKeyColumn] columns
        cdef CKeyColumn column
        cdef size_t at
        directions = tuple(descending) or (False,) * specs.size()
        if len(directions) != <Py_ssize_t>specs.size():
            raise ValueError("a direction for each column, or none")
        for at in range(specs.size()):
            column.field = specs[at]
            column.descending = directions[at]
            columns.push_back(column)
            self.kinds.push_back(<int>specs[at].kind)
        self.ids = tuple([field.id for field in fields])
        self.missing = tuple([field.missing for field in fields])
        self.writer = new KeyWriter(columns)
        self.reader = new KeyReader(columns)

    def __dealloc__(self):
        del self.writer
        del self.reader

    def encode(self, atoms, bytes prefix=b""):
        """A key of these atoms, behind a prefix. ValueError if one is not of its kind."""
        cdef size_t at, count = self.kinds.size()
        # A tuple: nobody changes it meanwhile.
        cdef tuple values = atoms if type(atoms) is tuple else tuple(atoms)
        if <size_t>len(values) != count:
            raise ValueError(f"{len(values)} atoms for {count} columns")
        self.begin(prefix)
        for at in range(count):
            self.put(at, <object>PyTuple_GET_ITEM(values, at))
        return self.key()

    def encode_fields(self, dict fields not None, bytes prefix=b""):
        """As `encode`, of the fields that have the columns' ids; `missing` where there is none."""
        cdef size_t at
        cdef PyObject* atom
        self.begin(prefix)
        for at in range(self.kinds.size()):
            atom = PyDict_GetItemWithError(fields, <object>PyTuple_GET_ITEM(self.ids, at))
            if atom == NULL:
                self.put(at, <object>PyTuple_GET_ITEM(self.missing, at))
            else:
                self.put(at, <object>atom)
        return self.key()

    def encode_many(self, rows, bytes prefix=b""):
        """The keys of many rows."""
        return [self.encode(row, prefix) for row in rows]

    def decode(self, bytes key not None, size_t start=0):
        """The atoms of key[start:]. Raises Corruption when these bytes are not a key."""
        cdef size_t at, count = self.kinds.size()
        cdef size_t size = PyBytes_GET_SIZE(key)
        cdef object atom
        # As in RowReader: below, the garbage collector does not run.
        cdef tuple row = PyTuple_New(count)
        if start > size:
            start = size
        cdef BadKey bad = self.reader.read(KeySlice(PyBytes_AS_STRING(key) + start, size - start))
        if bad.reason != NULL:
            raise _Corruption(f"key {key.hex()}", start + bad.offset, bad.reason.decode())
        for at in range(count):
            atom = self.atom(at)
            Py_INCREF(atom)
            PyTuple_SET_ITEM(row, at, atom)
        return row

    def decode_many(self, keys, size_t start=0):
        """The atoms of many keys."""
        return [self.decode(key, start) for key in keys]

    cdef int begin(self, bytes prefix) except -1:
        if prefix is None:
            raise TypeError("a prefix is bytes")
        self.writer.begin(KeySlice(PyBytes_AS_STRING(prefix), PyBytes_GET_SIZE(prefix)))
        return 0

    cdef object key(self):
        cdef KeySlice slice = self.writer.slice()
        return PyBytes_FromStringAndSize(<const char*>slice.data, slice.size)

    cdef int put(self, size_t at, object atom) except -1:
        cdef int kind = self.kinds[at], overflow = 0
        cdef Py_ssize_t size = 0
        cdef const char* text
        cdef int64_t number
        cdef bint written = False
        if atom is None:
            self.writer.null()
            written = True
        elif kind == KEY_INTEGER or kind == KEY_INTERVAL:
            if PyLong_CheckExact(atom):
                number = PyLong_AsLongLongAndOverflow(atom, &overflow)
                if kind == KEY_INTERVAL:
                    if not overflow:
                        self.writer.interval(number)
                        written = True
                elif not overflow:
                    written = self.writer.integer(number)
                elif overflow > 0 and atom >> 64 == 0:
                    written = self.writer.unsigned_integer(PyLong_AsUnsignedLongLong(atom))
            elif kind == KEY_INTERVAL and PyBytes_CheckExact(atom):
                written = self.writer.interval(
                    KeySlice(PyBytes_AS_STRING(atom), PyBytes_GET_SIZE(atom))
                )
        elif kind == KEY_TEXT or kind == KEY_DECIMAL:
            if PyUnicode_CheckExact(atom):
                text = PyUnicode_AsUTF8AndSize(atom, &size)
                if kind == KEY_TEXT:
                    self.writer.bytes(KeySlice(text, size))
                    written = True
                else:
                    written = self.writer.decimal(KeySlice(text, size))
        elif kind == KEY_FLOAT:
            if PyFloat_CheckExact(atom):
                self.writer.floating(PyFloat_AS_DOUBLE(atom))
                written = True
        elif kind == KEY_BOOLEAN:
            if atom is True or atom is False:
                self.writer.boolean(atom is True)
                written = True
        elif PyBytes_CheckExact(atom):
            if kind == KEY_BINARY:
                self.writer.bytes(KeySlice(PyBytes_AS_STRING(atom), PyBytes_GET_SIZE(atom)))
                written = True
            else:
                written = self.writer.fixed(
                    KeySlice(PyBytes_AS_STRING(atom), PyBytes_GET_SIZE(atom))
                )
        if not written:
            raise ValueError(f"column {at} of a key cannot hold {atom!r:.60}")
        return 0

    cdef object atom(self, size_t at):
        cdef const KeyValue* value = &self.reader[0][at]
        cdef int kind = self.kinds[at]
        cdef KeySlice bytes_ = self.reader.bytes_of(at)
        cdef KeyString text
        if value.null:
            return None
        if kind == KEY_INTEGER or kind == KEY_INTERVAL:
            return value.number
        if kind == KEY_TEXT:
            return PyUnicode_DecodeUTF8(<const char*>bytes_.data, bytes_.size, NULL)
        if kind == KEY_FLOAT:
            return value.floating
        if kind == KEY_BOOLEAN:
            return <bint>value.truth
        if kind == KEY_DECIMAL:
            key_decimal_of(self.reader[0], at, text)
            bytes_ = text.slice()
            return PyUnicode_DecodeUTF8(<const char*>bytes_.data, bytes_.size, NULL)
        return PyBytes_FromStringAndSize(<const char*>bytes_.data, bytes_.size)
