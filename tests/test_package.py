"""The shape of the package: public names, import direction, light imports, neighbours."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import edgeinfer

ROOT = Path(edgeinfer.__file__).parent
PUBLIC = """RayleighLink TransferTime Node Cascade Compute Transfer Measured Pipeline split edge_only device_only paper latency
mean_sojourn violation_bound violation_bracket simulate rare_violation Estimate deadline_at max_arrival_rate min_bandwidth
study plan UnstableError quality allocate_steps""".split()
#: What each room may import.
BELOW = {
    "model": set(),
    "estimates": set(),
    "network": {"model"},
    "delay": {"model", "estimates"},
    "quality": {"model", "estimates", "network"},
    "bridge": {"model", "estimates", "network"},
    "plan": {"model", "delay"},
    "study": {"model", "delay", "plan"},
    "paper": {"model", "estimates", "delay", "network", "quality", "bridge", "plan", "study"},
}


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names(name):
    assert getattr(edgeinfer, name) is not None


def test_unknown_names():
    with pytest.raises(AttributeError, match="nonsense"):
        edgeinfer.nonsense  # noqa: B018


@pytest.mark.parametrize("room", BELOW)
def test_imports_point_one_way(room):
    for path in (ROOT / room).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
                if node.module == "edgeinfer":
                    names = [f"edgeinfer.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                continue
            for name in names:
                parts = name.split(".")
                if parts[0] == "edgeinfer" and len(parts) > 1 and parts[1] in BELOW and parts[1] != room:
                    assert parts[1] in BELOW[room], f"{path}: {name}"


@pytest.mark.process
def test_import_is_light():
    script = (
        "import sys, time\nimport numpy\nstart = time.process_time()\nimport edgeinfer\n"
        "print(time.process_time() - start)\n"
        "print([m for m in ('matplotlib', 'xarray', 'dask', 'zarr', 'scipy', 'click', 'onnx', 'onnxruntime') if m in sys.modules])"
    )
    runs = [
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True) for _ in range(3)
    ]
    assert all(run.stdout.splitlines()[1] == "[]" for run in runs)
    bridge = script.replace("import edgeinfer\n", "import edgeinfer.bridge\n", 1)
    run = subprocess.run([sys.executable, "-c", bridge], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[1] == "[]"
    assert min(float(run.stdout.splitlines()[0]) for run in runs) < 0.2


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
_core.ergodic_rate(np.array([0.0, np.nan, 1.0]), np.array([1e-300, 1.0, 1e300]))
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
