"""The shape of the package: public names, import direction, light imports, neighbours."""

import ast
import graphlib
import inspect
import os
import re
import shutil
import subprocess
import sys
import typing
from pathlib import Path

import pytest

import edgeinfer

ROOT = Path(edgeinfer.__file__).parent
PUBLIC = """RayleighLink TransferTime Node Cascade Compute Transfer Measured Pipeline split edge_only device_only paper
latency mean_sojourn violation_bound violation_bracket simulate rare_violation Estimate deadline_at max_arrival_rate
min_bandwidth Terminals EdgeNode Band Batching Cell simulate_cell cell_bracket
max_terminals min_servers cell
Session Delay Fork Review timely best_rounds
study plan UnstableError quality allocate_steps""".split()
#: What every room of the bridge may import.
GROUND = {"model", "estimates", "network"}
BRIDGE = ("cascade", "cutting", "tile", "codec", "wire", "exit", "link", "edge", "device", "work", "run")
#: What each room may import, the rooms of the bridge on four floors.
BELOW = {
    "model": set(),
    "estimates": set(),
    "scenes": set(),
    "network": {"model"},
    "delay": {"model", "estimates"},
    "quality": {"model", "estimates", "network"},
    **dict.fromkeys(("bridge.cascade", "bridge.cutting", "bridge.tile", "bridge.codec", "bridge.wire"), GROUND),
    "bridge.exit": {*GROUND, "bridge.codec"},
    "bridge.link": {*GROUND, "bridge.wire"},
    "bridge.edge": {*GROUND, "bridge.wire"},
    "bridge.device": {*GROUND, "bridge.wire"},
    "bridge.work": {*GROUND, *(f"bridge.{room}" for room in ("cascade", "cutting", "wire", "edge", "device"))},
    "bridge.run": {
        *GROUND,
        *(f"bridge.{room}" for room in ("cascade", "cutting", "exit", "wire", "link", "edge", "device", "work")),
    },
    # Its face hands on what the rooms within have.
    "bridge": {*GROUND, *(f"bridge.{room}" for room in BRIDGE)},
    "strategies": {*GROUND, "scenes", "quality", "bridge", *(f"bridge.{room}" for room in BRIDGE)},
    "cell": {"model", "estimates", "delay"},
    "plan": {"model", "delay", "cell"},
    "study": {"model", "delay", "cell", "plan"},
    "paper": {
        "model",
        "estimates",
        "scenes",
        "delay",
        "cell",
        "network",
        "quality",
        "bridge",
        *(f"bridge.{room}" for room in BRIDGE),
        "strategies",
        "plan",
        "study",
    },
}
BELOW["cli"] = BELOW.keys() - {"cli"}


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names(name):
    assert getattr(edgeinfer, name) is not None


@pytest.mark.parametrize("module", [edgeinfer, edgeinfer.bridge, edgeinfer.cell, edgeinfer.paper])
def test_names_are_listed(module):
    """What tab completion and `help` ask for."""
    assert set(module.__all__) <= set(dir(module)) and all(hasattr(module, name) for name in dir(module))


def described(module):
    """Each public function of a room and of its classes."""
    for value in (getattr(module, name) for name in module.__all__):
        if inspect.isfunction(value):
            yield value
        elif inspect.isclass(value):
            yield from (method for _, method in inspect.getmembers(value, inspect.isfunction))


@pytest.mark.parametrize("room", ["model", "delay", "cell", "estimates", "quality", "plan", "study"])
def test_help_shows_types_by_their_names(room):
    """Not taken apart: ArrayLike is a union of seven types, of 400 letters."""
    for function in described(getattr(edgeinfer, room)):
        assert "_NestedSequence" not in str(inspect.signature(function)), function
        assert typing.get_type_hints(function) is not None


def test_figures_are_listed():
    assert "figure9" in dir(edgeinfer.paper)


def test_type_checkers_know_what_loads_later():
    source = ast.parse((ROOT / "__init__.py").read_text())
    told = next(node for node in source.body if isinstance(node, ast.If)).body
    known = {alias.asname for node in told for alias in node.names}
    assert known | {"model", "delay"} == set(edgeinfer.__all__) - set(vars(edgeinfer.model)) - set(
        vars(edgeinfer.delay)
    ) - {"__version__"}


NUMPY_ALONE = """
import inspect, sys
sys.modules["grpc"] = None
from edgeinfer import *
import edgeinfer
for module in (edgeinfer, edgeinfer.bridge, edgeinfer.paper):
    inspect.getmembers(module)
print(Cell.__name__, "strategies" in dir(edgeinfer))
"""


@pytest.mark.process
def test_all_names_can_be_taken_without_grpc():
    run = subprocess.run([sys.executable, "-c", NUMPY_ALONE], capture_output=True, text=True)
    assert run.stdout == "Cell False\n", run.stderr


def test_unknown_names():
    with pytest.raises(AttributeError, match="nonsense"):
        edgeinfer.nonsense  # noqa: B018


def imported(path):
    """Modules of this package that a file imports, wherever in it; a name that is imported may be one."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "edgeinfer":
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "edgeinfer")


def room_of(name):
    """The room of a module or of a name in it, "bridge.cascade" say; None for what lies in no room."""
    parts = name.split(".")[1:]
    return next((room for room in (".".join(parts[:2]), *parts[:1]) if room in BELOW), None)


@pytest.mark.parametrize("room", BELOW)
def test_imports_point_one_way(room):
    for path in ROOT.joinpath(*room.split(".")).rglob("*.py"):
        if room_of(".".join(("edgeinfer", *path.relative_to(ROOT).with_suffix("").parts))) != room:
            continue
        for name in imported(path):
            if (other := room_of(name)) not in (None, room):
                assert other in BELOW[room], f"{path}: {name}"


def test_no_file_imports_itself_by_way_of_others():
    files = {".".join(("edgeinfer", *p.relative_to(ROOT).with_suffix("").parts)): p for p in ROOT.rglob("*.py")}
    arrows = {}
    for name, path in files.items():
        # A package's face only hands names on.
        found = set() if name.endswith("__init__") else set(imported(path))
        arrows[name] = {n if n in files else n.rpartition(".")[0] for n in found} & files.keys()
    graphlib.TopologicalSorter(arrows).prepare()


def test_no_room_names_the_command_line():
    """Not to start it as a process either: what a process is told goes to a module of its own room."""
    for path in ROOT.rglob("*.py"):
        if path.relative_to(ROOT).parts[0] != "cli":
            assert "edgeinfer.cli" not in path.read_text(), path


def functions():
    """Each function of the package, and its lines without those of its docstring, which have no limit."""
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                first = node.body[0]
                documented = ast.get_docstring(node, clean=False) is not None
                docstring = first.end_lineno - first.lineno + 1 if documented else 0
                yield f"{path.relative_to(ROOT)}: {node.name}", node.end_lineno - node.lineno + 1 - docstring


def test_files_and_functions_are_short():
    assert {name: lines for name, lines in functions() if lines > 60} == {}
    lengths = {path: len(path.read_text().splitlines()) for path in ROOT.rglob("*.py")}
    # The messages' code is generated.
    assert {p: n for p, n in lengths.items() if n > 500 and not p.name.endswith("_pb2.py")} == {}


def test_functions_of_the_core_are_short():
    """From the line that names one, at the left edge, to the brace that ends it, there too."""
    for path in (ROOT.parent / "csrc").rglob("*.c"):
        for found in re.finditer(r"^\w[^\n;]*\([^;{}]*\)\s*\{\n.*?^\}", path.read_text(), re.DOTALL | re.MULTILINE):
            name = re.search(r"(\w+)\(", found[0])
            assert len(found[0].splitlines()) <= 80, f"{path.name}: {name[1]}"


@pytest.mark.process
def test_import_is_light():
    heavy = ("matplotlib", "xarray", "dask", "zarr", "scipy", "click", "onnx", "onnxruntime", "grpc", "torch")
    for module in ("edgeinfer", "edgeinfer.bridge"):
        script = f"import sys, {module}\nprint([name for name in {heavy} if name in sys.modules])"
        run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        assert run.stdout == "[]\n", module


NEIGHBOUR = """
import ctypes, ctypes.util
gsl = ctypes.CDLL(ctypes.util.find_library("gsl"))
gsl.gsl_set_error_handler.restype = ctypes.c_void_p
gsl.gsl_set_error_handler.argtypes = [ctypes.c_void_p]
calls = []
HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_int)
mine = HANDLER(lambda reason, file, line, errno: calls.append(errno))
gsl.gsl_set_error_handler(ctypes.cast(mine, ctypes.c_void_p))
import numpy as np
import edgeinfer
link = edgeinfer.RayleighLink(10e6, 31, -100, [30.0, 128.1, 260.0], 0.01)
link.mean_rate()
from edgeinfer import _core
_core.mean_rate(np.array([0.0, np.nan, 1.0]), np.array([1e-300, 1.0, 1e300]), 1.0, 0.0, 1.0, 1.0)
edgeinfer.violation_bracket(edgeinfer.paper.scenario().pipelines()["split"], 0.35, 6.0)
assert calls == [], calls  # the core does not lean on a handler, and leaves the one that is set
assert gsl.gsl_set_error_handler(None) == ctypes.cast(mine, ctypes.c_void_p).value
print("untouched")
"""


@pytest.mark.process
def test_another_user_of_gsl_is_not_disturbed():
    from ctypes.util import find_library

    if find_library("gsl") is None:
        pytest.skip("no shared GSL")
    run = subprocess.run([sys.executable, "-c", NEIGHBOUR], capture_output=True, text=True)
    assert run.stdout == "untouched\n", run.stderr


def test_paths_in_the_documentation_exist():
    base = ROOT.parent
    for name in ("README.md", "CONTRIBUTING.md"):
        text = (base / name).read_text()
        for path in re.findall(r"`((?:edgeinfer|csrc|tests|benchmarks|notebooks|scripts)/[\w./]*)`", text):
            assert (base / path).exists(), f"{name}: {path}"


@pytest.mark.process
def test_the_example_of_the_readme_prints_what_it_says():
    text = (ROOT.parent / "README.md").read_text()
    code, said = re.search(r"```python\n(.*?)```\n\n```\n(.*?)```", text, re.DOTALL).groups()
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == said


@pytest.mark.process
def test_an_unbuilt_checkout_says_so(tmp_path):
    names = shutil.ignore_patterns("*.so", "*.pyd", "__pycache__", "models", "data")
    shutil.copytree(ROOT, tmp_path / "edgeinfer", ignore=names)
    for module in ("edgeinfer", "edgeinfer.model", "edgeinfer.cli"):
        run = subprocess.run(
            [sys.executable, "-S", "-c", f"import {module}"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
        )
        last = run.stderr.strip().splitlines()[-1]
        assert run.returncode == 1 and last.startswith("ImportError: edgeinfer: "), run.stderr
        assert str(tmp_path) in last and "not built" in last and f"pip install --editable {tmp_path}" in last


@pytest.mark.process
def test_the_map_names_commits_that_are_there():
    def git(*arguments):
        return subprocess.run(["git", *arguments], cwd=ROOT.parent, capture_output=True, text=True).stdout

    if shutil.which("git") is None or git("rev-parse", "--is-shallow-repository").strip() != "false":
        pytest.skip("no history")
    subjects = git("log", "--format=%s").splitlines()
    rows = re.findall(r'^\|.*\| "(.*)" \|$', (ROOT.parent / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    assert len(rows) > 8
    for row in rows:
        assert any(subject.startswith(row) for subject in subjects), row
