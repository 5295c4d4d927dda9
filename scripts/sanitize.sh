#!/usr/bin/env bash
# The kernel's suites under AddressSanitizer with UBSan, then under ThreadSanitizer, then its fuzzers.
#
#   scripts/sanitize.sh [python]        FUZZ_SECONDS=20 for each fuzz target
#
# A copy of the package is built with the sanitizers under build/sanitize, so that the working tree
# keeps its own build. Any report fails the run.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$(realpath -s "${1:-.venv/bin/python}")
seconds=${FUZZ_SECONDS:-20}
native=murmur/kvcore/kernel/native

suites() { # <sanitizers> <runtime library> <tests...>
    local kind=$1 runtimes copy
    # libstdc++ too: without it, what the kernel throws is unknown to the sanitizer's runtime.
    runtimes="$(g++ -print-file-name="$2") $(g++ -print-file-name=libstdc++.so)"
    shift 2
    copy=build/sanitize/${kind//,/-}
    mkdir -p "$copy"
    rm -rf "$copy"/{murmur,tests,docs}
    cp -r murmur tests docs setup.py pyproject.toml "$copy"
    find "$copy/murmur" -name '*.so' -delete
    (
        cd "$copy"
        MURMUR_SANITIZE=$kind "$python" setup.py --quiet build_ext --inplace
        LD_PRELOAD=$runtimes "$python" -c \
            'from murmur.kvcore.kernel import NATIVE; assert NATIVE, "the kernel was not built"'
        LD_PRELOAD=$runtimes "$python" -m pytest -q -x \
            -p no:cacheprovider -o timeout=1800 "$@"
    )
}

export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1
export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
export TSAN_OPTIONS=halt_on_error=1:report_signal_unsafe=0
export PYTHONMALLOC=malloc

suites address,undefined libasan.so tests/kvcore/kernel tests/kvcore/test_tree.py
suites thread libtsan.so tests/kvcore/kernel -k 'thread or concurren'

mkdir -p build/sanitize/fuzz
for target in "$native"/fuzz/fuzz_*.cpp; do
    binary=build/sanitize/fuzz/$(basename "$target" .cpp)
    g++ -std=c++17 -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -I "$native" \
        -pthread -o "$binary" "$target" "$native"/*.cpp
    echo "$binary for $seconds s"
    "$binary" "$seconds"
done
