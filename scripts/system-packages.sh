#!/bin/sh
# Installs what pip cannot: GSL, pkg-config and, for a distribution's own Python, its headers and venv module.
# Does nothing where they are there; says what to install where it may not install.
set -eu
python=${PYTHON:-python3}
missing=""
command -v pkg-config >/dev/null || missing="$missing pkg-config"
pkg-config --exists 'gsl >= 2.5' 2>/dev/null || missing="$missing libgsl-dev"
"$python" -c 'import ensurepip' 2>/dev/null || missing="$missing python3-venv"
"$python" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' ||
    missing="$missing python3-dev"
[ -n "$missing" ] || exit 0

if command -v apt-get >/dev/null; then
    if [ "$(id -u)" = 0 ]; then
        as_root=""
    elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
        as_root="sudo -n"
    else
        echo "missing:$missing; run: sudo apt-get install$missing" >&2
        exit 1
    fi
    echo "installing$missing"
    # shellcheck disable=SC2086
    $as_root apt-get update -qq
    # shellcheck disable=SC2086
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
    exit 0
fi
cat >&2 <<MESSAGE
missing:$missing
  conda       conda install -c conda-forge gsl pkg-config
  Homebrew    brew install gsl pkg-config
MESSAGE
exit 1
