#!/bin/sh
# Installs the C core under a prefix: install-core.sh PREFIX CC OBJECT .. ; DESTDIR is where a package is put together.
set -eu
prefix=$1 compiler=$2
shift 2
case $prefix in /*) ;; *) prefix=$(pwd)/$prefix ;; esac # pkg-config's file is read from elsewhere
version=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' edgeinfer/_version.py)
test -n "$version"
to=${DESTDIR:-}$prefix
mkdir -p "$to/include/edgeinfer" "$to/lib/pkgconfig"
cp csrc/edgeinfer/*.h "$to/include/edgeinfer/"
rm -f "$to/lib/libedgeinfer.a"
ar rcs "$to/lib/libedgeinfer.a" "$@"
# shellcheck disable=SC2046
$compiler -shared "$@" -Wl,-soname,libedgeinfer.so.0 -o "$to/lib/libedgeinfer.so.0" $(pkg-config --libs gsl) -lm -pthread
ln -sf libedgeinfer.so.0 "$to/lib/libedgeinfer.so"
cat >"$to/lib/pkgconfig/edgeinfer.pc" <<END
prefix=$prefix

Name: edgeinfer
Description: Delay guarantees for device-edge collaborative inference: the numeric core
Version: $version
Requires.private: gsl
Cflags: -I\${prefix}/include
Libs: -L\${prefix}/lib -ledgeinfer
Libs.private: -lm -pthread
END
