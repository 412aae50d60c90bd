"""What a store takes for its own and what it refuses, how it grows, and several processes on one."""

import dataclasses
import functools
import json
import logging
import os
import subprocess
import sys
import textwrap
import types

import numpy as np
import pytest
import xarray

import edgeinfer
from edgeinfer import _validate, paper, study
from edgeinfer._store import Store

SCENARIO = paper.scenario()
AXES = {"bandwidth": [1e6, 2e6], "prior_steps": [10.0, 20.0, 30.0]}


def marker(scenario):
    return scenario.bandwidth / 1e6 + 1000 * scenario.prior_steps


def swept(function, store, axes=None, scenario=SCENARIO, **options):
    return study.sweep(function, scenario, axes or {"slot": [0.01]}, store=store, progress=False, **options)


def loaded(tmp_path, text, name="study_helper"):
    """Names of a module with this text, as a script or a notebook has them."""
    names = {"__name__": name}
    exec(compile(textwrap.dedent(text), str(tmp_path / f"{name}.py"), "exec"), names)
    return names


def test_axes_in_another_order(tmp_path):
    first = swept(marker, tmp_path / "z", AXES)
    turned = swept(marker, tmp_path / "z", dict(reversed(AXES.items())))
    backwards = swept(marker, tmp_path / "z", {name: axis[::-1] for name, axis in AXES.items()})
    assert turned["value"].dims == ("prior_steps", "bandwidth")
    for again in (turned, backwards):
        xarray.testing.assert_equal(again.transpose(*AXES).sortby(list(AXES)), first)


def limit(value):
    return lambda scenario: len(repr(value))


class Above:
    def __init__(self, value):
        self.value = value

    def __call__(self, scenario):
        return scenario.slot > self.value

    def method(self, scenario):
        return scenario.slot > self.value

    @classmethod
    def of_class(cls, scenario):
        return True

    @staticmethod
    def static(scenario):
        return False


@dataclasses.dataclass(frozen=True, eq=False)
class Held(_validate.Frozen):
    """As profiles and graphs of networks hold what they have by name."""

    rows: types.MappingProxyType


def held(value):
    return limit(Held(types.MappingProxyType({"a": value})))


def two(scenario, a=0, b=1):
    return a + b


def first(value, scenario):
    return value


def recursive(scenario, n=3):
    return 0 if n == 0 else recursive(scenario, n - 1)


@pytest.mark.parametrize(
    "make",
    [
        lambda: limit(1.0),
        lambda: limit(np.arange(3)),
        lambda: limit({"a": [1, {2, 3}]}),
        lambda: limit(SCENARIO),
        lambda: held(1),
        lambda: Above(1.0),
        lambda: Above(1.0).method,
        lambda: Above.of_class,
        lambda: Above.static,
        lambda: recursive,
        lambda: functools.partial(first, 1),
        lambda: functools.partial(functools.partial(two, a=1), b=2),
        lambda: functools.partial(Above(1.0).method),
        lambda: functools.lru_cache(marker),
        lambda: lambda s: np.sin(s.slot),
        lambda: functools.wraps(marker)(lambda s: marker(s)),
        lambda: np.vectorize(marker, otypes=[float]),
    ],
)
def test_the_same_function_made_anew_resumes(make, tmp_path):
    first = swept(make(), tmp_path / "z")
    before = sorted(os.listdir(tmp_path / "z" / "cells"))
    xarray.testing.assert_identical(swept(make(), tmp_path / "z"), first)
    assert sorted(os.listdir(tmp_path / "z" / "cells")) == before


def test_what_is_computed_of_a_value_is_no_part_of_it(tmp_path):
    """A stage that had been used before the sweep was another one."""
    stages = [edgeinfer.Session([edgeinfer.Constant(0.1, "edge")], [0.5, 0.5]) for _ in range(2)]
    first = swept(limit(stages[0]), tmp_path / "z")
    edgeinfer.violation_bracket(edgeinfer.Pipeline(stages[1:]), 1.0, 1.0)
    assert vars(stages[0]).keys() < vars(stages[1]).keys()
    xarray.testing.assert_identical(swept(limit(stages[1]), tmp_path / "z"), first)


@pytest.mark.parametrize(
    ("one", "other", "text"),
    [
        (lambda s: s.slot, lambda s: s.bandwidth, "function code differs"),
        (lambda s: 1, lambda s: 2, "function code differs"),
        (lambda s: sum(x for x in (1, 2)), lambda s: sum(x for x in (1, 3)), "function code differs"),
        (lambda s: 1, lambda s: True, "function code differs"),
        (limit(4.0), limit(8.0), r"function closure value \(4.0 there, 8.0 here\)"),
        (limit([1]), limit([2]), "function closure value differs"),
        (limit(np.arange(3)), limit(np.arange(3.0)), "function closure value differs"),
        (limit({"a": 1}), limit({"a": 2}), "function closure value differs"),
        (held(1), held(2), "closure value differs"),
        (limit(limit(1)), limit(limit(2)), r"closure value closure value \(1 there, 2 here\)"),
        (limit(SCENARIO), limit(SCENARIO.replace(slot=0.5)), r"closure value.slot \(0.01 there, 0.5 here\)"),
        (lambda s, n=1: n, lambda s, n=2: n, r"function default n \(1 there, 2 here\)"),
        (lambda s, *, n=1: n, lambda s, *, n=2: n, r"function default n \(1 there, 2 here\)"),
        (Above(1.0), Above(2.0), r"function.value \(1.0 there, 2.0 here\)"),
        (Above(1.0).method, Above(2.0).method, r"function self.value \(1.0 there, 2.0 here\)"),
        (Above.of_class, Above.static, "function code differs"),
        (functools.partial(first, 1), functools.partial(first, 2), r"function argument 0 \(1 there, 2 here\)"),
        (functools.partial(two, a=1), functools.partial(two, a=2), r"function keyword a \(1 there, 2 here\)"),
        (functools.partial(two, a=1), functools.partial(two, a=1, b=1), r"keyword b \(nothing there, 1 here\)"),
        (functools.lru_cache(limit(1)), functools.lru_cache(limit(2)), r"closure value \(1 there, 2 here\)"),
        (np.vectorize(limit(1), otypes=[bool]), np.vectorize(limit(2), otypes=[bool]), r"\(1 there, 2 here\)"),
    ],
)
def test_another_function_is_refused(one, other, text, tmp_path):
    swept(one, tmp_path / "z")
    with pytest.raises(ValueError, match=f"holds another sweep: .*{text}"):
        swept(other, tmp_path / "z")


MODULE = """
    K = 1
    TABLE = {"f": lambda s: 1}
    class Model:
        rate = 1
        def run(self, s):
            return helper(s)
    def helper(s):
        return K
    def inner(s):
        return helper(s)
    def by_global(s):
        return K
    def by_helper(s):
        return inner(s)
    def by_class(s):
        return Model().run(s)
    def by_rate(s):
        return Model.rate
    def by_table(s):
        return TABLE["f"](s)
    def decorated(f):
        return lambda s: f(s)
    by_decorator = decorated(helper)
"""


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("by_global", "K = 1", "K = 2"),
        ("by_helper", "K = 1", "K = 2"),
        ("by_class", "K = 1", "K = 2"),
        ("by_helper", "return K", "return K + 1"),
        ("by_class", "return helper(s)\n    def helper", "return -helper(s)\n    def helper"),
        ("by_rate", "rate = 1", "rate = 2"),
        ("by_table", "s: 1", "s: 2"),
        ("by_decorator", "return K", "return -K"),
    ],
)
def test_what_the_code_refers_to_counts(name, old, new, tmp_path):
    assert MODULE.replace(old, new) != MODULE
    swept(loaded(tmp_path, MODULE)[name], tmp_path / "z")
    swept(loaded(tmp_path, MODULE + "\n    unrelated = 1")[name], tmp_path / "z")
    with pytest.raises(ValueError, match="another sweep"):
        swept(loaded(tmp_path, MODULE.replace(old, new))[name], tmp_path / "z")


@pytest.mark.parametrize(
    "text",
    [
        "import study_helper as h\ndef f(s): return h.g(s)",
        "def f(s):\n import study_helper as h\n return h.g(s)",
        "def f(s):\n from study_helper import g\n return g(s)",
    ],
)
def test_modules_of_ones_own_count(text, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    for number, accepted in ((1, True), (1, True), (2, False)):
        (tmp_path / "study_helper.py").write_text(f"def g(s):\n    return {number}\n")
        sys.modules.pop("study_helper", None)
        function = loaded(tmp_path, text, "main")["f"]
        if accepted:
            assert swept(function, tmp_path / "z")["value"] == number
        else:
            with pytest.raises(ValueError, match="another sweep"):
                swept(function, tmp_path / "z")
    sys.modules.pop("study_helper", None)


def test_code_that_looks_names_up_depends_on_its_module(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    for number in (1, 2):
        (tmp_path / "study_named.py").write_text(
            f"def g(s):\n    return {number}\ndef f(s):\n    return globals()['g'](s)\n"
        )
        sys.modules.pop("study_named", None)
        import study_named

        if number == 1:
            swept(study_named.f, tmp_path / "z")
    with pytest.raises(ValueError, match="function module source"):
        swept(study_named.f, tmp_path / "z")
    sys.modules.pop("study_named", None)


def test_what_has_no_value_is_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match=r"function closure value of type builtins\.generator"):
        swept(limit(x for x in [1]), tmp_path / "z")
    assert not (tmp_path / "z").exists()


def test_counters_and_caches_do_not_count(tmp_path):
    seen, kept = [], {}

    def counted(scenario):
        seen.append(scenario.slot)
        return kept.setdefault(scenario.slot, scenario.slot)

    swept(counted, tmp_path / "z", {"slot": [0.01, 0.02]})
    swept(counted, tmp_path / "z", {"slot": [0.01, 0.02, 0.03]})
    assert seen == [0.01, 0.02, 0.03]


def test_another_scenario_is_refused_by_its_field(tmp_path):
    swept(marker, tmp_path / "z", AXES)
    swept(marker, tmp_path / "z", AXES, SCENARIO.replace(bandwidth=7e6))  # an axis: each cell has its own
    with pytest.raises(ValueError, match=r"scenario field path_loss_db \(128.1 there, 100.0 here\)"):
        swept(marker, tmp_path / "z", AXES, SCENARIO.replace(path_loss_db=100.0))
    with pytest.raises(ValueError, match="seed"):
        swept(lambda s, rng=None: 1, tmp_path / "y")
        swept(lambda s, rng=None: 1, tmp_path / "y", seed=1)


@pytest.mark.parametrize(
    ("axes", "text"),
    [
        ({"bandwidth": [1e6]}, r"axes \(bandwidth, prior_steps there, bandwidth here\)"),
        (AXES | {"slot": [0.01]}, "axes"),
        (AXES | {"bandwidth": [5e6]}, r"axis bandwidth shares no value with the store's \(\[1000000, 2000000\] there"),
    ],
)
def test_other_axes_are_refused(axes, text, tmp_path):
    swept(marker, tmp_path / "z", AXES)
    with pytest.raises(ValueError, match=f"another sweep: {text}"):
        swept(marker, tmp_path / "z", axes)


def test_a_grid_grows_and_says_how(tmp_path, caplog):
    calls = []

    def counted(scenario):
        calls.append((scenario.bandwidth, scenario.prior_steps))
        return marker(scenario)

    swept(counted, tmp_path / "z", AXES)
    grown = {"prior_steps": [5.5, 10, 20, 30], "bandwidth": [2e6, 1.5e6, 1e6]}
    calls.clear()
    with caplog.at_level(logging.INFO, "edgeinfer.study"):
        found = swept(counted, tmp_path / "z", grown)
    assert len(calls) == 6 and all(b == 1.5e6 or p == 5.5 for b, p in calls)
    assert "6 of 12 cells" in caplog.text and "5.5" in caplog.text and "1500000" in caplog.text
    xarray.testing.assert_identical(found, study.sweep(marker, SCENARIO, grown, progress=False))
    assert len(swept(counted, tmp_path / "z", {"bandwidth": [1e6], "prior_steps": [5.5]})["value"]) == 1
    assert len(calls) == 6


def test_seeds_go_with_labels(tmp_path):
    def noisy(scenario, rng, k):
        return np.random.default_rng(rng).random()

    axes = {"slot": [0.01, 0.02], "k": [1, 2]}
    first = study.sweep(noisy, SCENARIO, axes, seed=1, progress=False)["value"]
    turned = study.sweep(noisy, SCENARIO, {"k": [3, 2, 1.0], "slot": [0.02, 0.01]}, seed=1, progress=False)["value"]
    np.testing.assert_array_equal(turned.sel(k=[1, 2], slot=[0.01, 0.02]).transpose("slot", "k"), first)
    assert len(np.unique(turned)) == 6


def test_marked_cells_are_tried_again(tmp_path):
    calls = []

    def frail(scenario):
        calls.append(scenario.slot)
        if scenario.slot == 0.02 and len(calls) < 4:
            raise RuntimeError("too early")
        return scenario.slot

    axes = {"slot": [0.01, 0.02, 0.03]}
    first = swept(frail, tmp_path / "z", axes, on_error="mark")
    assert first["failure"].values.tolist() == ["", "RuntimeError: too early", ""]
    np.testing.assert_array_equal(first["value"], [0.01, np.nan, 0.03])
    (mark,) = (tmp_path / "z" / "cells").glob("*.json")
    assert json.loads(mark.read_text())["point"] == {"slot": 0.02} and "Traceback" in mark.read_text()
    again = swept(frail, tmp_path / "z", axes, on_error="mark")
    assert calls == [0.01, 0.02, 0.03, 0.02] and (again["failure"] == "").all()
    assert not mark.exists() and len(calls) == 4


def test_a_failure_names_its_cell_and_the_rest_stays(tmp_path):
    def frail(scenario):
        raise KeyError("x")

    with pytest.raises(KeyError) as failure:
        swept(frail, tmp_path / "z", AXES)
    assert failure.value.__notes__ == ["in cell (bandwidth = 1000000.0, prior_steps = 10.0)"]
    assert not list((tmp_path / "z" / "cells").iterdir())  # no lock is left


def test_what_is_no_store_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x").write_text("x")
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "zarr.json").write_text(json.dumps({"attributes": {"edgeinfer_sweep": "{}"}}))
    for name, text in (
        ("file", "is a file"),
        ("other", "is not empty"),
        ("old", "older edgeinfer"),
        ("s3://a/b", "local"),
    ):
        with pytest.raises(ValueError, match=text):
            swept(marker, name if "://" in name else tmp_path / name)
    Store(tmp_path / "surface", "surface", {})
    with pytest.raises(ValueError, match="holds a surface, no sweep"):
        swept(marker, tmp_path / "surface")
    swept(marker, tmp_path / "z")
    held = json.loads((tmp_path / "z" / "store.json").read_text())
    (tmp_path / "z" / "store.json").write_text(json.dumps(held | {"format": 99}))
    with pytest.raises(ValueError, match="format 99"):
        swept(marker, tmp_path / "z")


def test_a_damaged_or_moved_cell_is_not_read(tmp_path):
    swept(marker, tmp_path / "z", AXES)
    one, another, *_ = (tmp_path / "z" / "cells").glob("*.npz")
    whole = one.read_bytes()
    for content in (whole[:-40], b"", another.read_bytes()):
        one.write_bytes(content)
        with pytest.raises(ValueError, match=r"is damaged .*remove it"):
            swept(marker, tmp_path / "z", AXES)
    one.unlink()
    assert swept(marker, tmp_path / "z", AXES)["value"].notnull().all()


def test_a_claim_is_one_processes_own_and_ends_with_it(tmp_path):
    store = Store(tmp_path, "sweep", {}, {"a": [1]})
    assert store.claim({"a": 1}) and not Store(tmp_path, "sweep", {}, {"a": [1]}).claim({"a": 1})
    script = (
        "import sys, os, signal; from edgeinfer._store import Store\n"
        "store = Store(sys.argv[1], 'sweep', {}, {'a': [1]})\n"
        "print(store.claim({'a': 1}), flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    assert subprocess.run(command, capture_output=True, text=True).stdout == "False\n"
    store.release({"a": 1})
    for _ in range(2):
        assert subprocess.run(command, capture_output=True, text=True).stdout == "True\n"
    assert store.claim({"a": 1})
    store.close()


SHARED = """
import os, signal, sys, time, tqdm, xarray
from pathlib import Path
from edgeinfer import paper, study
folder = Path(sys.argv[1])
xarray.Dataset(coords={"a": [1.0]})  # what it imports late
def slow(scenario):
    time.sleep(0.02)
    with open(folder / "log", "a") as log:
        log.write(f"{os.getpid()} {scenario.prior_steps:g}\\n")
    if scenario.prior_steps == 7 and MODE == "mark":
        raise RuntimeError("seven")
    return scenario.prior_steps
def begin():
    child = os.fork()
    if child:
        return child
    axes = {"prior_steps": [float(i) for i in range(1, 25)]}
    table = study.sweep(slow, paper.scenario(), axes, store=folder / MODE, on_error=MODE)
    os._exit(0 if table["value"].sum() == (300 if MODE == "raise" else 293) else 1)
for MODE, kill in (("raise", False), ("mark", False), ("raise", True)):
    if kill:
        folder = folder / "killed"
        folder.mkdir()
    children = [begin() for _ in range(3)]
    if kill:
        while not (folder / "log").exists() or f"{children[0]} " not in (folder / "log").read_text():
            time.sleep(0.005)
        os.kill(children[0], signal.SIGKILL)
    print(*[os.waitpid(child, 0)[1] for child in children], flush=True)
    lines = [line.split() for line in (folder / "log").read_text().splitlines()]
    print(*sorted(int(cell) for who, cell in lines if cell != "7"), flush=True)
    (folder / "log").unlink()
os.waitpid(begin(), 0)
print((folder / "log").exists())
"""


@pytest.mark.process
def test_processes_share_a_store(tmp_path):
    """Three at once, then three of which one cell fails, then three of which one is killed, and one more."""
    done = subprocess.run([sys.executable, "-c", SHARED, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    ends, cells = done.stdout.splitlines()[:6:2], done.stdout.splitlines()[1:6:2]
    assert ends == ["0 0 0", "0 0 0", "9 0 0"]
    # Where it fails, cell 7 may be tried by one that begins after another has marked it.
    once = [k for k in range(1, 25) if k != 7]
    assert [list(map(int, line.split())) for line in cells[:2]] == [once] * 2
    assert set(map(int, cells[2].split())) == set(once) and len(cells[2].split()) <= len(once) + 1
    assert done.stdout.splitlines()[6] == "False"  # all was there


def test_a_library_of_another_version_is_another_sweep(tmp_path, monkeypatch):
    swept(marker, tmp_path / "z")
    monkeypatch.setattr(sys.modules["edgeinfer.study.sweep"], "__version__", "9.9")
    with pytest.raises(ValueError, match=rf"edgeinfer \({edgeinfer.__version__} there, 9.9 here\)"):
        swept(marker, tmp_path / "z")


@pytest.mark.parametrize("content", ["", "[]", "{", '{"format": 2}', '{"format": 2, "kind": "sweep", "belongs": 1}'])
def test_a_damaged_manifest_is_named(content, tmp_path):
    swept(marker, tmp_path / "z", AXES)
    (tmp_path / "z" / "store.json").write_text(content)
    with pytest.raises(ValueError, match=r"store\.json is damaged|is of format None"):
        swept(marker, tmp_path / "z", AXES)
