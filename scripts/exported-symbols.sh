#!/bin/sh
# The C core exports nothing but names that begin with ei_.
set -eu
compiler=${1:-gcc}
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT
for source in csrc/edgeinfer/*.c; do
    # shellcheck disable=SC2046
    "$compiler" -std=c11 -Icsrc $(pkg-config --cflags gsl) -c "$source" -o "$build/$(basename "$source" .c).o"
done
if nm -g --defined-only "$build"/*.o | awk 'NF == 3 {print $3}' | grep -v '^ei_'; then
    echo "exported symbols without the prefix ei_" >&2
    exit 1
fi
