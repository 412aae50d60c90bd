#!/bin/sh
# Installs the C core under a prefix: install-core.sh PREFIX CC OBJECT ..
set -eu
prefix=$1 compiler=$2
shift 2
version=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
mkdir -p "$prefix/include/edgeinfer" "$prefix/lib/pkgconfig"
cp csrc/edgeinfer/*.h "$prefix/include/edgeinfer/"
rm -f "$prefix/lib/libedgeinfer.a"
ar rcs "$prefix/lib/libedgeinfer.a" "$@"
# shellcheck disable=SC2046
$compiler -shared "$@" -Wl,-soname,libedgeinfer.so.0 -o "$prefix/lib/libedgeinfer.so.0" $(pkg-config --libs gsl) -lm -pthread
ln -sf libedgeinfer.so.0 "$prefix/lib/libedgeinfer.so"
cat >"$prefix/lib/pkgconfig/edgeinfer.pc" <<END
prefix=$prefix

Name: edgeinfer
Description: Delay guarantees for device-edge collaborative inference: the numeric core
Version: $version
Requires.private: gsl
Cflags: -I\${prefix}/include
Libs: -L\${prefix}/lib -ledgeinfer
Libs.private: -lm -pthread
END
