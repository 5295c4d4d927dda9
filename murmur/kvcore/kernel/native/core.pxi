# What the other parts of the binding stand on: the core's types as Cython sees them, and its
# exceptions as Python's.

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.exc cimport PyErr_Fetch, PyErr_Restore
from cpython.ref cimport Py_DECREF, Py_INCREF, PyObject
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy
from libcpp cimport bool as cbool
from libcpp.map cimport map as cmap
from libcpp.memory cimport make_shared, shared_ptr, unique_ptr
from libcpp.set cimport set as cset
from libcpp.string cimport string
from libcpp.utility cimport move, pair
from libcpp.vector cimport vector

import os as _os

from murmur import errors as _errors
from murmur.kvcore.kernel.interface import (
    ABSENT as _ABSENT, Ranges as _Ranges, TableInfo as _TableInfo,
)
from murmur.kvcore.storage import Problem as _Problem


cdef extern from *:
    """
    #include "codec.hpp"
    #include "common.hpp"
    #include "file.hpp"

    static PyObject* murmur_corruption;
    static PyObject* murmur_checksum_mismatch;
    static PyObject* murmur_unknown_format;
    static PyObject* murmur_closed;
    static PyObject* murmur_invalid_input;

    /* Turns the C++ exception in flight into a Python one. */
    static void translate_error() {
      try {
        throw;
      } catch (const murmur::Raised&) {
        if (!PyErr_Occurred()) PyErr_SetString(PyExc_SystemError, "a callback failed silently");
      } catch (const murmur::Corrupt& error) {
        PyObject* type = error.damage == murmur::Damage::Checksum ? murmur_checksum_mismatch
                         : error.damage == murmur::Damage::Format ? murmur_unknown_format
                                                                  : murmur_corruption;
        PyObject* path = PyUnicode_DecodeFSDefaultAndSize(
            error.path.data(), static_cast<Py_ssize_t>(error.path.size()));
        PyObject* arguments = path ? Py_BuildValue(
            "(NKs)", path, static_cast<unsigned long long>(error.offset), error.reason.c_str())
                                   : nullptr;
        if (arguments) PyErr_SetObject(type, arguments);
        Py_XDECREF(arguments);
      } catch (const murmur::IoError& error) {
        PyObject* path = PyUnicode_DecodeFSDefaultAndSize(
            error.path.data(), static_cast<Py_ssize_t>(error.path.size()));
        if (!path) return;
        errno = error.error;
        PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, path);
        Py_DECREF(path);
      } catch (const murmur::ClosedError& error) {
        PyErr_Format(murmur_closed, "%s: the tree is closed", error.path.c_str());
      } catch (const murmur::InvalidArgument& error) {
        PyErr_SetString(murmur_invalid_input, error.what());
      } catch (const murmur::Malformed& error) {
        PyErr_SetString(PyExc_ValueError, error.what());
      } catch (const std::bad_alloc&) {
        PyErr_NoMemory();
      } catch (const std::exception& error) {
        PyErr_SetString(PyExc_RuntimeError, error.what());
      }
    }

    /* What file.hpp asks for: others run while a thread that holds the lock waits for the disk. */
    static void* release_interpreter() {
      return PyGILState_Check() ? static_cast<void*>(PyEval_SaveThread()) : nullptr;
    }
    static void take_interpreter(void* state) {
      PyEval_RestoreThread(static_cast<PyThreadState*>(state));
    }

    /* The functions of a codec, at the addresses that codec.py found. */
    template <class F>
    static void set_function(F& function, unsigned long long address) {
      function = reinterpret_cast<F>(static_cast<uintptr_t>(address));
    }
    static void offer_codec(uint8_t codec, const std::vector<uint64_t>& at) {
      murmur::codec::Functions functions;
      if (codec == murmur::codec::LZ4) {
        set_function(functions.lz4_bound, at.at(0));
        set_function(functions.lz4_compress, at.at(1));
        set_function(functions.lz4_decompress, at.at(2));
      } else {
        set_function(functions.zstd_bound, at.at(0));
        set_function(functions.zstd_compress, at.at(1));
        set_function(functions.zstd_decompress, at.at(2));
        set_function(functions.zstd_is_error, at.at(3));
      }
      murmur::codec::offer(codec, functions);
    }
    """
    PyObject* murmur_corruption
    PyObject* murmur_checksum_mismatch
    PyObject* murmur_unknown_format
    PyObject* murmur_closed
    PyObject* murmur_invalid_input
    void translate_error()
    void* release_interpreter() nogil
    void take_interpreter(void*) nogil
    void offer_codec(uint8_t, const vector[uint64_t]&) except +translate_error


cdef extern from "common.hpp" namespace "murmur" nogil:
    cdef cppclass Slice:
        const uint8_t* data
        size_t size
        Slice()
        Slice(const uint8_t*, size_t)
        Slice(const char*, size_t)
        Slice(const string&)
    void c_fail_allocation "murmur::fail_allocation"(uint64_t)


cdef extern from "crc32.hpp" namespace "murmur" nogil:
    uint32_t c_crc32 "murmur::crc32"(uint32_t, const void*, size_t)


cdef extern from "codec.hpp" namespace "murmur::codec" nogil:
    void set_loader(int (*)(uint8_t) except -1)


cdef extern from "file.hpp" namespace "murmur" nogil:
    cdef cppclass BlockingHooks:
        void* (*enter)() noexcept
        void (*leave)(void*) noexcept
    void set_blocking_hooks(BlockingHooks)

    cdef cppclass CReadFile "murmur::ReadFile":
        pass
    cdef cppclass CAppendFile "murmur::AppendFile":
        pass
    cdef cppclass FdReadFile(CReadFile):
        FdReadFile(int, string, cbool) except +translate_error
    cdef cppclass FdAppendFile(CAppendFile):
        FdAppendFile(int, string) except +translate_error
    cdef cppclass ReadCallbacks:
        void* file
        int (*read)(void*, uint64_t, size_t, uint8_t*, size_t*) except -1
        int (*size)(void*, uint64_t*) except -1
        void (*drop)(void*) noexcept
    cdef cppclass CallbackReadFile(CReadFile):
        CallbackReadFile(ReadCallbacks, string) except +translate_error
    cdef cppclass AppendCallbacks:
        void* file
        int (*write)(void*, const uint8_t*, size_t) except -1
        int (*sync)(void*) except -1
        int (*close)(void*) except -1
        void (*drop)(void*) noexcept
    cdef cppclass CallbackAppendFile(CAppendFile):
        CallbackAppendFile(AppendCallbacks, string) except +translate_error


cdef extern from "turns.hpp" namespace "murmur::turns" nogil:
    cbool c_wanted "murmur::turns::wanted"() noexcept
    void c_want "murmur::turns::want"(cbool) noexcept


cdef extern from "iterator.hpp" namespace "murmur" nogil:
    cdef enum class Kind(uint8_t):
        Put
        Tombstone
        Reference
    cdef cppclass CReference "murmur::Reference":
        uint64_t file
        uint64_t offset
        uint32_t length
        uint32_t crc
        @staticmethod
        CReference decode(Slice) except +translate_error
    cdef cppclass RangeTombstone:
        string start
        string stop
    ctypedef vector[RangeTombstone] RangeTombstones
    cdef cppclass CEntrySource "murmur::EntrySource":
        RangeTombstones ranges() except +translate_error
    cdef cppclass CSortedRun "murmur::SortedRun"(CEntrySource):
        size_t bytes()


cdef extern from "cache.hpp" namespace "murmur" nogil:
    cdef cppclass BlockRef:
        void verify() except +translate_error
    cdef cppclass CBlockCache "murmur::BlockCache":
        CBlockCache(uint64_t) except +
        uint64_t weight()
        uint64_t hits()
        uint64_t misses()


cdef extern from "table.hpp" namespace "murmur" nogil:
    cdef cppclass CTableInfo "murmur::TableInfo":
        uint64_t number
        uint64_t size
        uint64_t entries
        uint64_t tombstones
        uint64_t ranges
        uint64_t max_sequence
        uint32_t checksum
        string first
        string last
        vector[pair[uint64_t, uint64_t]] references
    cdef cppclass Found:
        Kind kind
        Slice value
        BlockRef pin
    cdef cppclass CProblem "murmur::Problem":
        string path
        uint64_t offset
        string reason
    cdef cppclass CValueFile "murmur::ValueFile":
        CValueFile(unique_ptr[CReadFile], uint64_t, uint64_t) except +translate_error
        void verify_bounds(const CReference&) except +translate_error
        void read(const CReference&, uint8_t*) except +translate_error
        vector[CProblem] check() except +translate_error
        void close()
    cdef cppclass CTable "murmur::Table":
        CTable(unique_ptr[CReadFile], CTableInfo, shared_ptr[CBlockCache]) except +translate_error
        cbool get(Slice, uint32_t, Found&) except +translate_error
        const RangeTombstones& ranges() except +translate_error
        vector[CProblem] check(const cmap[uint64_t, CValueFile*]*) except +translate_error
        void close()
        uint64_t resident()
        uint64_t filtered()
        uint64_t passed_in_vain()


cdef extern from "merge.hpp" namespace "murmur" nogil:
    cdef cppclass CTableOptions "murmur::TableOptions":
        uint64_t table_bytes
        uint32_t block_bytes
        uint8_t codec
        int level
        uint32_t bits_per_key
        uint64_t separate_bytes
    cdef cppclass MergeOptions:
        CTableOptions table
        uint64_t max_sequence
        uint64_t pause_bytes
        cbool drop_tombstones
        cset[uint64_t] relocate
        cmap[uint64_t, CValueFile*] values
    cdef cppclass OutputCallbacks:
        void* output
        CAppendFile* (*create)(void*, cbool, uint64_t*) except NULL
        int (*pause)(void*, uint64_t) except -1
    cdef cppclass CallbackOutput:
        CallbackOutput(OutputCallbacks)
    cdef cppclass Merged:
        vector[CTableInfo] tables
        vector[pair[uint64_t, uint64_t]] value_files
    Merged c_write_tables "murmur::write_tables"(
        const vector[const CEntrySource*]&, const MergeOptions&, CallbackOutput&
    ) except +translate_error
    cdef cppclass TableSource(CEntrySource):
        TableSource(vector[shared_ptr[CTable]]) except +translate_error
