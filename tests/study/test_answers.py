"""What a cell may answer, and how cells of other types, labels and variables become one table."""

import dataclasses
import datetime
from decimal import Decimal

import numpy as np
import pandas
import pytest
import xarray

import edgeinfer as ei
from edgeinfer import Estimate, paper, study

SCENARIO = paper.scenario()


def table(answers, on_store, tmp_path, **options):
    """A sweep whose k-th cell answers answers[k]; from a store the second time, where the same has to come out."""
    names = [f"cell {k}" for k in range(len(answers))]
    store = tmp_path / "store" if on_store else None
    axes = {"cell": names}
    made = study.sweep(
        lambda s, cell: answers[names.index(cell)], SCENARIO, axes, store=store, progress=False, **options
    )
    if on_store:
        again = study.sweep(
            lambda s, cell: answers[names.index(cell)], SCENARIO, axes, store=store, progress=False, **options
        )
        xarray.testing.assert_identical(made, again)
    return made


@pytest.fixture(params=[False, True], ids=["memory", "store"])
def swept(request, tmp_path):
    return lambda *answers, **options: table(answers, request.param, tmp_path, **options)


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ((0, 0.25), [0.0, 0.25]),
        ((0.25, 0), [0.25, 0.0]),
        ((True, 0.5), [1.0, 0.5]),
        ((np.float32(0.5), 1e300), [0.5, 1e300]),
        ((np.int8(1), 1 << 40), [1, 1 << 40]),
        ((1, 2 + 3j), [1, 2 + 3j]),
        (("split", "device_only"), ["split", "device_only"]),
        ((True, False), [True, False]),
        ((b"a", b"abc"), [b"a", b"abc"]),
        (
            (np.datetime64("2020-01-01"), datetime.datetime(2020, 1, 1, 12)),
            np.array(["2020-01-01T00", "2020-01-01T12"], "M8[ns]"),
        ),
        ((np.timedelta64(1, "s"), datetime.timedelta(milliseconds=5)), np.array([1000, 5], "m8[ms]")),
    ],
)
def test_types_are_joined(swept, answers, expected):
    found = swept(*answers)["value"]
    np.testing.assert_array_equal(found, expected)
    assert found.dtype.kind == np.asarray(expected).dtype.kind


@pytest.mark.parametrize(
    ("answers", "text"),
    [
        (("none", 0.5), "value: is a str in cell .*cell 0.*, a number in cell .*cell 1"),
        ((np.datetime64("2020-01-01"), 1), "value: is a time"),
        ((np.timedelta64(1, "s"), 1), "value: is a duration"),
        (((1 << 53) + 1, 0.5), "value of cell .*must be within 2"),
        ((np.datetime64("3000-01-01"), np.datetime64(0, "ns")), "value of cell .*cell 0.*3000.*within the range"),
        (([np.datetime64("3000-01-01"), np.datetime64(0, "ns")],), "value = 3000.*within the range"),
        ((np.timedelta64(300 * 365, "D"), np.timedelta64(1, "ns")), "value of cell .*cell 0.*within the range"),
        (([1, 2], [1, 2, 3]), "dimension value_0, which has no labels,: is of size 2"),
        ((1, [1]), "value: is over no dimension"),
        ((None,), "value = None"),
        (({"a": None},), "a = None"),
        (({"a": [1, None]},), "a = None"),
        (({"a": ["x", 1]},), "of one type, not number and str"),
        (({"a": object()},), "a = <object"),
        (({1: 2},), "key 1"),
        (({},), "empty"),
        (({"a": {"b": 1}, "a_b": 2},), "a_b: is in the answer twice"),
        ((Decimal(1),), "value = Decimal"),
        ((np.ma.masked_array([1.0, 2.0], [0, 1]),), "value: must not have masked"),
        (([[1], [1, 2]],), "value: must be"),
        (({"cell": 1},), "cell: is an axis"),
        ((xarray.DataArray([1.0], dims="cell"),), "cell: is an axis"),
        ((xarray.DataArray(1.0, coords={"cell": "another"}),), "cell: is an axis"),
        (
            tuple(xarray.DataArray(1.0, attrs={"units": unit}) for unit in ("s", "ms")),
            "value: is in s in cell .*, in ms in cell",
        ),
        ((1.0, xarray.DataArray(1.0, attrs={"units": "s"})), "without units"),
        (
            (xarray.DataArray([1.0], dims="t"), xarray.DataArray([1.0], dims="t", coords={"t": [0]})),
            "dimension t: is without labels",
        ),
        (
            (
                xarray.DataArray([1.0, 2.0], dims="t", coords={"t": [0, 0]}),
                xarray.DataArray([1.0], dims="t", coords={"t": [0]}),
            ),
            "coordinate t of cell .*must not repeat",
        ),
        (
            (
                pandas.Series([1.0], pandas.MultiIndex.from_tuples([(1, 2)]))
                .to_xarray()
                .stack(z=["level_0", "level_1"]),
            ),
            "one level",
        ),
        ((xarray.DataArray(1.0, attrs={"by": object()}),), "attributes of value"),
    ],
)
@pytest.mark.parametrize("on_store", [False])
def test_what_is_refused_is_named(answers, text, on_store, tmp_path):
    with pytest.raises(ValueError, match=text):
        table(answers, on_store, tmp_path)


def test_nanoseconds_of_pandas_count(swept):
    texts = ["2020-01-01T00:00:00.000000001", "2020-01-01T00:00:00.000000002"]
    times = [pandas.Timestamp(text) for text in texts]
    found = swept(*({"at": time, "both": times, "since": [time - times[0]], "no": pandas.NaT} for time in times))
    np.testing.assert_array_equal(found["at"], np.array(texts, "M8[ns]"))
    np.testing.assert_array_equal(found["both"][0], np.array(texts, "M8[ns]"))
    np.testing.assert_array_equal(found["since"][:, 0], np.array([0, 1], "m8[ns]"))
    assert np.isnat(found["no"]).all()
    axis = study.sweep(lambda s, when: when.nanosecond, SCENARIO, {"when": times}, progress=False)
    assert axis["value"].sel(when=np.datetime64(texts[1])) == 2


def test_labels_are_joined(swept):
    def labelled(values, labels):
        return {"y": xarray.DataArray(values, dims="t", coords={"t": labels}, attrs={"units": "s"})}

    found = swept(labelled([1, 2], [0.1, 0.2]), labelled([3, 4], [0.2, 0.1]))["y"]
    np.testing.assert_array_equal(found.sel(t=0.1), [1, 4])
    assert found.dtype.kind == "i" and found.attrs == {"units": "s"}


def test_other_labels_are_gaps(swept):
    def labelled(values, labels):
        return {"y": xarray.DataArray(values, dims="t", coords={"t": labels})}

    found = swept(labelled([1, 2], [1, 3]), labelled([3, 4, 5], [2.5, 1, 0]))["y"]
    np.testing.assert_array_equal(found["t"], [0, 1, 2.5, 3])
    np.testing.assert_array_equal(found, [[np.nan, 1, np.nan, 2], [5, 4, 3, np.nan]])


@pytest.mark.parametrize(
    "labels",
    [
        # "ab" has the bytes of "a" and "b", 1 of 64 bits those of 1 and 0 of 32.
        [np.array(["ab"]), np.array(["a", "b"])],
        [np.array([1, 0], np.int32), np.array([1], np.int64)],
        # The same labels in two types, in another order than a third cell's.
        [np.array([1, 2]), np.array([2, 1], np.int32), np.array([2, 1])],
        [np.array(["a", "b"]), np.array(["b", "a"]), np.array(["b", "a"], "U5")],
    ],
)
def test_labels_count_whatever_their_type(swept, labels):
    cells = [{str(label): 10.0 * k + i for i, label in enumerate(own)} for k, own in enumerate(labels)]
    arrays = [xarray.DataArray(list(cell.values()), {"n": own}) for cell, own in zip(cells, labels, strict=True)]
    found = swept(*arrays)["value"]
    for row, cell in zip(found.values, cells, strict=True):
        there = {str(label): value for label, value in zip(found["n"].values, row, strict=True) if value == value}
        assert there == cell


def test_labels_of_other_lengths_and_two_dimensions(swept):
    def labelled(names, times, shift):
        values = shift + np.arange(len(names) * len(times)).reshape(len(names), len(times))
        return xarray.DataArray(values, dims=("name", "t"), coords={"name": names, "t": times})

    found = swept(labelled(["a"], [1, 2], 0), labelled(["long", "a"], [2, 1], 10).transpose())["value"]
    assert found.dims == ("cell", "name", "t")
    one = found.sel(cell="cell 1")
    assert one.sel(name="long", t=2) == 10 and one.sel(name="a", t=1) == 13
    assert np.isnan(found.sel(cell="cell 0", name="long")).all()


def test_variables_and_coordinates_of_their_own(swept):
    first = xarray.Dataset({"x": ("t", [1.0, 2.0])}, {"t": [0, 1], "kind": "a", "unit": ("t", ["s", "m"])})
    second = xarray.Dataset({"x": ("t", [3.0, 4.0]), "z": 7}, {"t": [0, 1], "kind": "bb", "unit": ("t", ["s", "m"])})
    found = swept(first, second)
    np.testing.assert_array_equal(found["z"], [np.nan, 7])
    assert found["kind"].values.tolist() == ["a", "bb"] and found["kind"].dims == ("cell",)
    assert found["unit"].dims == ("t",) and set(found.coords) == {"cell", "t", "kind", "unit"}


def test_a_cells_own_arrays_are_joined_by_label(swept):
    answer = {
        "y": xarray.DataArray([1.0, 2.0], dims="t", coords={"t": [0.1, 0.2]}),
        "z": xarray.DataArray([3.0, 4.0], dims="t", coords={"t": [0.2, 0.3]}),
    }
    found = swept(answer)
    np.testing.assert_array_equal(found["z"][0], [np.nan, 3, 4])


def test_the_axis_itself_may_be_a_coordinate(swept):
    found = swept(xarray.DataArray(1.0, coords={"cell": "cell 0"}))
    assert found["value"].dims == ("cell",)


def test_estimates_dataclasses_and_pandas(swept):
    @dataclasses.dataclass
    class Two:
        value: float
        spread: float

    estimate = Estimate(0.5, 0.4, 0.6, 0.95, 10)
    found = swept({"p": estimate, "q": {"two": Two(1.0, 2.0)}}, {"p": estimate, "q": {"two": Two(3.0, 4.0)}})
    assert set(found.data_vars) == {"p", "p_low", "p_high", "p_confidence", "p_replications", "q_two", "q_two_spread"}
    np.testing.assert_array_equal(found["q_two"], [1, 3])
    assert found["p_replications"].dtype.kind == "i"


def test_pandas(swept):
    found = swept(
        pandas.Series([1.0, 2.0], pandas.Index(["a", "b"], name="n")),
        pandas.Series([3.0], pandas.Index(["b"], name="n")),
    )
    np.testing.assert_array_equal(found["value"], [[1, 2], [np.nan, 3]])


@pytest.mark.parametrize(
    ("values", "lack"),
    [((1, 2), np.nan), ((True, False), np.nan), (("a", "b"), ""), ((1.5, 2.5), np.nan)],
)
def test_marked_cells_are_gaps(swept, values, lack):
    found = swept(values[0], None, values[1], on_error="mark")
    np.testing.assert_array_equal(found["value"], [values[0], lack, values[1]])
    assert found["failure"].values[[0, 2]].tolist() == ["", ""]
    assert found["failure"].values[1].startswith("ValueError: value = None")


def test_all_marked(swept):
    found = swept(None, None, on_error="mark")
    assert list(found.data_vars) == ["failure"] and (found["failure"] != "").all()


@pytest.mark.parametrize(
    "axis",
    [
        [1, "a"],
        [True, 2],
        [1, None],
        [np.nan, 1.0],
        [(1 << 53) + 1, 0.5],
        [1j],
        "abc",
        [[1], [1, 2]],
        [b"a"],
        [Decimal(1)],
        np.ma.masked_array([1, 2], [0, 1]),
        [np.datetime64("NaT", "s")],
        3,
        (x for x in [1]),
    ],
)
def test_axes_that_are_none(axis):
    with pytest.raises(ValueError, match="x'"):
        study.sweep(lambda s, x: 1, SCENARIO, {"x": axis}, progress=False)


@pytest.mark.parametrize(
    ("axis", "kind"),
    [
        ([1, 2], int),
        ([1, 2.5], float),
        (["a", "bc"], str),
        ([True, False], bool),
        (range(3), int),
        (np.array([1, 2], np.int8), int),
        ([datetime.datetime(2020, 1, 1), datetime.datetime(2020, 1, 2)], datetime.datetime),
        (np.array(["2020-01-01", "2020-01-02"], "M8[ns]"), np.datetime64),
        ([np.timedelta64(1, "s")], np.timedelta64),
        (xarray.DataArray([1.0, 2.0]), float),
        (pandas.Index(["a", "b"]), str),
    ],
)
def test_the_function_gets_what_the_axis_says(axis, kind, tmp_path):
    for _ in range(2):
        found = study.sweep(lambda s, x: type(x) is kind, SCENARIO, {"x": axis}, store=tmp_path / "z", progress=False)
    assert found["value"].all() and found.sizes == {"x": len(axis)}
    np.testing.assert_array_equal(found["x"], axis)


def test_simulations_whose_histograms_have_other_bins(swept):
    queue = ei.Pipeline([ei.Constant(0.1, "serve")])
    runs = [ei.simulate(queue, rate, 0.2, jobs=500, replications=2, rng=1) for rate in (1.0, 9.0)]
    assert runs[0].histogram.shape != runs[1].histogram.shape
    found = swept(*runs)
    np.testing.assert_array_equal(found["violation"][:, 0], [run.violation.value[0] for run in runs])
    assert "histogram" not in found and "dispersion" in found


def test_a_class_of_a_cell(swept):
    cell = ei.Cell(ei.Terminals(2, 0.1, ei.Pipeline([ei.Constant(0.1, "serve")]), edge="serve"), ei.EdgeNode())
    run = ei.simulate_cell(cell, 0.2, jobs=100, replications=2, rng=1)["terminals"]
    np.testing.assert_array_equal(swept(run)["mean"][0], run.mean.value)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"scenario": 3}, "scenario = 3"),
        ({"function": 3}, "function = 3"),
        ({"on_error": "skip"}, "on_error"),
        ({"client": 3}, "client = 3"),
        ({"axes": {"nonsense": [1]}}, "axes = nonsense"),
        ({"axes": [1]}, "axes = "),
        ({"axes": {"failure": [1]}, "on_error": "mark"}, "failure"),
        ({"axes": {"rng": [1]}, "seed": 1}, "rng"),
    ],
)
def test_bad_arguments(change, text):
    arguments = {"function": lambda s: 1, "scenario": SCENARIO, "axes": {"slot": [0.01]}, "progress": False}
    with pytest.raises(ValueError, match=text):
        study.sweep(**(arguments | change))
