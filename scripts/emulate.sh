#!/bin/sh
# emulate.sh ARCHITECTURE WHEEL..: tries wheels for another processor in qemu, under Debian's Python for it, all unpacked below build/ and
# not installed. What is sampled and certified has to have the same bits there as here.
set -eu
architecture=$1
shift
place=$(pwd)/build/emulated-$architecture
system=$place/system
case $architecture in aarch64) debian=arm64 ;; *) debian=$architecture ;; esac
mkdir -p "$place/apt/lists/partial" "$place/apt/archives/partial" "$place/qemu" "$system"
: >"$place/apt/status"
options="-qq -o APT::Architecture=$debian -o APT::Architectures=$debian -o APT::Sandbox::User=root -o Dir::State=$place/apt
    -o Dir::State::status=$place/apt/status -o Dir::Cache=$place/apt"
if [ ! -e "$system/usr/bin/python3" ]; then
    # shellcheck disable=SC2086
    apt-get $options update
    # shellcheck disable=SC2086
    apt-get $options -y --no-install-recommends --download-only install python3 libstdc++6
    for package in "$place"/apt/archives/*.deb; do dpkg-deb -x "$package" "$system"; done
    (cd "$place/qemu" && apt-get -qq -o APT::Sandbox::User=root download qemu-user-static && dpkg-deb -x qemu-user-static_*.deb .)
fi
emulated() {
    "$place/qemu/usr/bin/qemu-$architecture-static" -L "$system" -E "PYTHONPATH=$place/packages" "$system/usr/bin/python3" "$@"
}
release=$(emulated -c 'import sys; print("%d.%d" % sys.version_info[:2])')
rm -rf "$place/packages"
"$PYTHON" -m pip install --quiet --target "$place/packages" --only-binary :all: --python-version "$release" --implementation cp \
    --abi "cp$(echo "$release" | tr -d .)" --abi abi3 --abi none \
    --platform "manylinux_2_17_$architecture" --platform "manylinux2014_$architecture" --platform "manylinux_2_28_$architecture" \
    "$@" pytest scipy mpmath hypothesis

trial='import hashlib, platform, sys
import numpy as np, edgeinfer as ei
pipeline = ei.paper.scenario().pipelines()["split"]
chain = ei.Pipeline([ei.Measured(np.arange(1.0, 9.0) / 10, "a"), ei.Session([ei.Exponential(0.1, "b")], [0.5, 0.5])])
found = []
for each, rate, times in ((pipeline, 0.35, [2.0, 6.0]), (chain, 1.2, [1.0, 3.0])):
    run = ei.simulate(each, rate, times, jobs=2000, replications=4, rng=1)
    bracket = ei.violation_bracket(each, rate, times)
    found += [run.violation.value, run.mean.low, bracket.lower, bracket.upper]
found += [np.asarray(ei.rare_violation(pipeline, 0.35, 8.0, rng=1).value)]
print(platform.machine(), sys.version.split()[0], file=sys.stderr)
print(hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in found)).hexdigest())'
tests=$(pwd)/tests/core
cd /
here=$("$PYTHON" -c "$trial")
there=$(emulated -c "$trial")
test "$here" = "$there" || { echo "the bits differ: $here here, $there emulated" >&2; exit 1; }
emulated -m pytest -q -p no:cacheprovider -c /dev/null --rootdir / "$tests/test_fading.py" "$tests/test_bound.py"
