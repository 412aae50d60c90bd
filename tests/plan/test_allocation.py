from types import SimpleNamespace

import numpy as np
import pytest
import xarray

from edgeinfer import Measured, Pipeline, allocate_steps, latency, paper, quality, violation_bound
from edgeinfer.plan.allocation import BETTER

PRIOR, DECODE = [1, 2, 4, 8, 16, 32], [1, 2, 4, 8, 16]
S = paper.scenario()
NODES = S.edge, S.device, S.link


def table(seed=1):
    rng = np.random.default_rng(seed)
    score = 100 - 40 / np.array(PRIOR)[:, None] - 12 / np.array(DECODE) + rng.normal(size=(6, 5))
    dims = ("prior_steps", "decode_steps")
    return xarray.Dataset(
        {
            "clip": (dims, score, {"better": "higher"}),
            "clip_low": (dims, score - 1),
            "clip_high": (dims, score + 1),
            "fid": (dims, 100 - score, {"better": "lower"}),
            "fid_low": (dims, 99 - score),
            "fid_high": (dims, 102 - score),
        },
        coords={"prior_steps": PRIOR, "decode_steps": DECODE},
    )


def cheapest(reaches, cost):
    """Over all cells, one by one."""
    found = [(cost(p, d), p, d) for p in PRIOR for d in DECODE if reaches(p, d)]
    return min(found)


def pipelines(prior, decode):
    return S.replace(prior_steps=prior, decode_steps=decode).pipelines()


@pytest.mark.parametrize("paradigm", ["split", "edge_only", "device_only"])
@pytest.mark.parametrize(
    ("metric", "end", "quality"), [("clip", "interval", 93.0), ("clip", "mean", 93.0), ("fid", "interval", 8.0)]
)
def test_cheapest_by_latency_equals_a_search_of_all(paradigm, metric, end, quality):
    surface = table()

    def reaches(p, d):
        value = surface[{"interval": {"clip": "clip_low", "fid": "fid_high"}[metric], "mean": metric}[end]]
        value = value.sel(prior_steps=p, decode_steps=d)
        return value <= quality if metric == "fid" else value >= quality

    found = allocate_steps(S.cascade, surface, quality, *NODES, paradigm=paradigm, metric=metric, end=end)
    cost, p, d = cheapest(reaches, lambda p, d: float(latency(pipelines(p, d)[paradigm]).total))
    assert (found.prior_steps, found.decode_steps) == (p, d)
    assert found.latency == pytest.approx(cost) and found.violation is None


@pytest.mark.parametrize("paradigm", ["split", "device_only"])
def test_cheapest_by_violation_probability_equals_a_search_of_all(paradigm):
    surface = table()

    def cost(p, d):
        pipeline = pipelines(p, d)[paradigm]
        return float(violation_bound(pipeline, 0.35, 4.0)), float(latency(pipeline).total)

    found = allocate_steps(
        S.cascade,
        surface,
        90.0,
        *NODES,
        paradigm=paradigm,
        metric="clip",
        criterion="violation",
        arrival_rate=0.35,
        deadline=4.0,
    )
    (violation, delay), p, d = cheapest(
        lambda p, d: surface["clip_low"].sel(prior_steps=p, decode_steps=d) >= 90.0, cost
    )
    assert (found.prior_steps, found.decode_steps) == (p, d)
    assert found.violation == pytest.approx(violation) and found.latency == pytest.approx(delay)


def test_unstable_everywhere_goes_by_latency():
    by_violation = allocate_steps(
        S.cascade, table(), 80.0, *NODES, metric="clip", criterion="violation", arrival_rate=1e3, deadline=4.0
    )
    by_latency = allocate_steps(S.cascade, table(), 80.0, *NODES, metric="clip")
    assert by_violation.violation == 1.0
    assert (by_violation.prior_steps, by_violation.decode_steps) == (by_latency.prior_steps, by_latency.decode_steps)


def test_many_qualities_at_once():
    wanted = np.array([[60.0, 80.0], [90.0, 95.0]])
    found = allocate_steps(S.cascade, table(), wanted, *NODES, metric="clip")
    assert found.latency.shape == (2, 2)
    assert (np.diff(found.latency.ravel()) >= 0).all() and (found.quality >= wanted).all()
    one = allocate_steps(S.cascade, table(), 90.0, *NODES, metric="clip")
    assert one.latency == found.latency[1, 0]


def test_measured_pipelines():
    def measured(prior, decode):
        return Pipeline([Measured([0.1 * prior, 0.2 * prior], "prior"), Measured([1.0 * decode], "decode")])

    found = allocate_steps(measured, table(), 85.0, metric="clip", end="mean")
    _, p, d = cheapest(
        lambda p, d: table()["clip"].sel(prior_steps=p, decode_steps=d) >= 85.0, lambda p, d: 0.15 * p + d
    )
    assert (found.prior_steps, found.decode_steps) == (p, d)


def test_which_values_are_better_is_known_of_our_metrics_and_asked_of_others():
    whole, bare = table(), table()
    for variable in bare.values():
        variable.attrs.clear()
    for metric, wanted in (("clip", 93.0), ("fid", 8.0)):
        with_it, without = (
            allocate_steps(S.cascade, surface, wanted, *NODES, metric=metric) for surface in (whole, bare)
        )
        assert with_it == without
        assert with_it == allocate_steps(S.cascade, whole.transpose(), wanted, *NODES, metric=metric)
    # Of a mean squared error the worst values reached every wanted one, as if higher were better.
    other = bare.rename(fid="mse", fid_low="mse_low", fid_high="mse_high")
    with pytest.raises(ValueError, match=r"surface\['mse'\].attrs\['better'\] = None: must be 'higher' or 'lower'"):
        allocate_steps(S.cascade, other, 8.0, *NODES, metric="mse")
    other["mse"].attrs["better"] = "lower"
    assert allocate_steps(S.cascade, other, 8.0, *NODES, metric="mse") == with_it
    other["mse"].attrs["better"] = "up"
    with pytest.raises(ValueError, match="= 'up': must be 'higher' or 'lower'"):
        allocate_steps(S.cascade, other, 8.0, *NODES, metric="mse")


def test_measures_agree_with_what_is_known_of_their_names():
    image = np.zeros((2, 8, 8, 3), np.uint8)
    extractor = SimpleNamespace(digest="", outputs=(), layers=None)
    measures = [
        quality.clip_measure(extractor, np.zeros((1, 2))),
        quality.attribute_measure(extractor, {"a": 2}, {"a": [0]}),
        quality.lpips_measure(extractor, image),
        quality.psnr_measure(image),
        quality.fid_measure(quality.haar_detail, image),
        quality.kid_measure(quality.haar_detail, image),
    ]
    assert BETTER == {measure.name: measure.better for measure in measures}


def test_gaps_of_the_surface_reach_nothing():
    surface, wanted = table(), 60.0
    whole = allocate_steps(S.cascade, surface, wanted, *NODES, metric="clip")
    surface["clip_low"].loc[{"prior_steps": whole.prior_steps, "decode_steps": whole.decode_steps}] = np.nan
    found = allocate_steps(S.cascade, surface, wanted, *NODES, metric="clip")
    cost, p, d = cheapest(
        lambda p, d: surface["clip_low"].sel(prior_steps=p, decode_steps=d) >= wanted,
        lambda p, d: float(latency(pipelines(p, d)["split"]).total),
    )
    assert (found.prior_steps, found.decode_steps) == (p, d) and found.latency == pytest.approx(cost)
    assert found.latency > whole.latency


def test_unreachable_quality_names_the_best():
    surface = table()
    best = surface["clip_low"].argmax(...)
    steps = f"prior_steps = {PRIOR[int(best['prior_steps'])]}, decode_steps = {DECODE[int(best['decode_steps'])]}"
    with pytest.raises(
        ValueError, match=f"quality = 99.5.*the best clip is {float(surface['clip_low'].max()):.6g}.*{steps}"
    ):
        allocate_steps(S.cascade, surface, [50.0, 99.5], *NODES, metric="clip")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"metric": None}, "metric = None: must be one of clip, fid"),
        ({"metric": "clip_low"}, "metric = 'clip_low'"),
        ({"quality": np.nan}, "quality = nan"),
        ({"paradigm": "cloud"}, "paradigm = 'cloud'"),
        ({"criterion": "violation"}, "arrival_rate = None"),
        ({"criterion": "price"}, "criterion = 'price'"),
        ({"end": "high"}, "end = 'high'"),
        ({"link": None}, "edge, device, link"),
        ({"surface": table().drop_vars("clip_low")}, "has no clip_low"),
    ],
)
def test_bad_input(change, text):
    arguments = {
        "cascade": S.cascade,
        "surface": table(),
        "quality": 90.0,
        "edge": S.edge,
        "device": S.device,
        "link": S.link,
        "metric": "clip",
    }
    with pytest.raises(ValueError, match=text):
        allocate_steps(**(arguments | change))
