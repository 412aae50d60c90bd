"""Build of edgeinfer._core: the C core in csrc/edgeinfer and its glue in csrc/python, linked with GSL."""

import os
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

MISSING_GSL = """
edgeinfer needs the GNU Scientific Library (GSL >= 2.5) and pkg-config to build. Install them first:
  Debian, Ubuntu   apt-get install libgsl-dev pkg-config
  conda            conda install -c conda-forge gsl pkg-config
  Homebrew         brew install gsl pkg-config
A GSL in a place of its own is found through PKG_CONFIG_PATH.
"""


def pkg_config(*arguments: str) -> list[str]:
    command = [os.environ.get("PKG_CONFIG", "pkg-config"), *arguments, "gsl >= 2.5"]
    try:
        answer = subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        sys.exit(MISSING_GSL)
    return shlex.split(answer.stdout)


def environment(name: str) -> list[str]:
    return shlex.split(os.environ.get(name, ""))


def gsl_link_arguments() -> list[str]:
    # EDGEINFER_STATIC_GSL=1 puts a private GSL inside, which scripts/wheel.sh compiled with hidden symbols.
    if os.environ.get("EDGEINFER_STATIC_GSL") == "1":
        library = Path(pkg_config("--variable=libdir")[0])
        return [str(library / "libgsl.a"), str(library / "libgslcblas.a"), "-lm"]
    return pkg_config("--libs")


#: What directs others, or has loops of little weight: compiled with EDGEINFER_COLD_CFLAGS behind all else. None that is
#: written in vectors: at -Os GCC leaves upper halves of registers in use, and all that comes behind is twice as slow.
COLD_NAMES = """
    alone. associated. backward. blocks. bound. bracket. cell_parts. cell_route. cell_transit. chain channel.
    compound. constant_ ends. envelope. exchange. exponentials. gain. geometric. group. half_line
    handover. inversion. joint. joint_bounds. joint_first. joint_laws. ladder. last_exit. lindley. lundberg.
    modulated. queue. rare. repetition. service. several_servers. single. split. tilt transfer. two_ walk. ways.
"""
COLD = ("csrc/python", *(f"csrc/edgeinfer/{name}" for name in COLD_NAMES.split()))
#: What draws numbers: compiled with EDGEINFER_HOT_CFLAGS behind all else.
HOT = tuple(f"csrc/edgeinfer/{name}" for name in ("arrival.", "lanes_", "rate."))


def core() -> Extension:
    # Contraction to FMA would make the sampled bits depend on the instruction set.
    flags = ["-std=c11", "-O3", "-ffp-contract=off", "-fvisibility=hidden", "-pthread"]
    return Extension(
        "edgeinfer._core",
        sources=sorted(str(path) for room in ("csrc/edgeinfer", "csrc/python") for path in Path(room).glob("*.c")),
        depends=sorted(str(path) for path in Path("csrc").rglob("*.[hi]*")),
        include_dirs=["csrc", numpy.get_include()],
        define_macros=[
            ("Py_LIMITED_API", "0x030A0000"),  # of 3.11 on, Py_DECREF takes no pointer to an array without a cast
            *((f"NPY_{name}", "NPY_2_0_API_VERSION") for name in ("NO_DEPRECATED_API", "TARGET_VERSION")),
        ],
        py_limited_api=True,
        extra_compile_args=[*flags, *pkg_config("--cflags"), *environment("EDGEINFER_CFLAGS")],
        extra_link_args=[*gsl_link_arguments(), "-pthread", *environment("EDGEINFER_LDFLAGS")],
    )


class BuildPython(build_py):
    """With EDGEINFER_WITHOUT_MODELS=1 what packages/models holds is left out: networks, the paper's items and data."""

    left_out = ()

    def finalize_options(self) -> None:
        super().finalize_options()
        if os.environ.get("EDGEINFER_WITHOUT_MODELS") == "1":
            rooms = ("network/models", "paper/data", "paper/items", "paper/measured", "paper/reproduction")
            self.left_out = tuple(f"edgeinfer/{room}" for room in rooms)
            self.packages = [name for name in self.packages if name.replace(".", "/") not in self.left_out]

    def find_data_files(self, package: str, source: str) -> list[str]:
        found = super().find_data_files(package, source)
        return [path for path in found if not any(Path(path).is_relative_to(folder) for folder in self.left_out)]


class BuildExtension(build_ext):
    def build_extension(self, ext: Extension) -> None:
        # As many files at a time as there are processors; distutils compiles one behind the other.
        compile_in_turn = self.compiler.compile

        def compile_one(source: str, options: dict[str, Any]) -> list[str]:
            cold = environment("EDGEINFER_COLD_CFLAGS") if source.startswith(COLD) else []
            hot = environment("EDGEINFER_HOT_CFLAGS") if source.startswith(HOT) else []
            return compile_in_turn([source], **{**options, "extra_postargs": [*options["extra_postargs"], *cold, *hot]})

        def compile_at_once(sources: list[str], **options: Any) -> list[str]:
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                found = pool.map(lambda source: compile_one(source, options), sources)
                return [name for names in found for name in names]

        self.compiler.compile = compile_at_once
        super().build_extension(ext)

    def copy_extensions_to_source(self) -> None:
        # Python would rather load an extension that an earlier build made for this one release of it.
        for path in Path("edgeinfer").glob("_core.cpython-*.so"):
            path.unlink()
        super().copy_extensions_to_source()


# Asking for metadata (sdist, egg_info) must work where no GSL is installed.
building = not {"sdist", "egg_info", "dist_info", "clean"} & set(sys.argv[1:])
setup(
    ext_modules=[core()] if building else [],
    cmdclass={"build_py": BuildPython, "build_ext": BuildExtension},
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
