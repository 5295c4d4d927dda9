"""The native kernel, built where there is a C++ compiler; without one the pure-Python twin serves.

MURMUR_SANITIZE=address,undefined (or thread) builds it for `make sanitize`.
"""

import os
from glob import glob

from setuptools import Extension, setup

NATIVE = "murmur/kvcore/kernel/native"


def _extensions():
    if os.environ.get("MURMUR_PURE") == "1":
        return []
    from Cython.Build import cythonize

    flags = ["-std=c++17", "-O2", "-fvisibility=hidden", "-Wall", "-Wextra", "-pthread"]
    links = ["-pthread"]
    sanitize = os.environ.get("MURMUR_SANITIZE")
    if sanitize:
        flags += [f"-fsanitize={sanitize}", "-fno-omit-frame-pointer", "-g", "-O1"]
        links += [f"-fsanitize={sanitize}"]
    extension = Extension(
        "murmur.kvcore.kernel._native",
        sources=["murmur/kvcore/kernel/_native.pyx", *sorted(glob(f"{NATIVE}/*.cpp"))],
        include_dirs=[NATIVE],
        depends=[*glob(f"{NATIVE}/*.hpp"), *glob(f"{NATIVE}/*.pxi")],
        language="c++",
        extra_compile_args=flags,
        extra_link_args=links,
        optional=True,
    )
    return cythonize([extension], language_level=3, build_dir="build/cython")


setup(ext_modules=_extensions())
