#!/bin/sh
# Runs the tests of the core on an extension built with AddressSanitizer and UndefinedBehaviorSanitizer.
set -eu
root=$(pwd)
build=$root/build/sanitize
rm -rf "$build"
mkdir -p "$build/package"
cp -r edgeinfer "$build/package/"
rm -f "$build"/package/edgeinfer/*.so
export EDGEINFER_CFLAGS="-O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all"
export EDGEINFER_LDFLAGS="-fsanitize=address,undefined"
"$PYTHON" setup.py -q build_ext --build-lib "$build/package" --build-temp "$build/temp"
compiler=${CC:-gcc}
preload="$($compiler -print-file-name=libasan.so):$($compiler -print-file-name=libubsan.so)"
# Python itself keeps allocations to its end, so leaks are tested by counting, not here.
export ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1
cd "$build"
LD_PRELOAD=$preload PYTHONPATH=$build/package PYTHONMALLOC=malloc "$PYTHON" -m pytest -c "$root/pyproject.toml" \
    --rootdir "$root" -p no:cacheprovider -n "${WORKERS:-$(nproc)}" --dist worksteal -m "not slow and not process" "$root/tests/core"
