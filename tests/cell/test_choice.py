"""Equilibrium and optimum of terminals that choose between an edge and themselves, beside closed forms."""

import numpy as np
import pytest

import edgeinfer as ei
from edgeinfer.cell import best_paradigms

RATE, DEADLINE, COUNT = 0.1, 4.0, 12
ALONE = ei.Terminals(1, RATE, ei.Pipeline([ei.Exponential(1 / 1.05, "device")]), name="alone")
SHARED = ei.Terminals(1, RATE, ei.Pipeline([ei.Exponential(0.5, "edge")]), edge="edge", name="shared")
CELL = ei.Cell((ALONE, SHARED), (ei.EdgeNode(),))


def closed(count):
    """M/M/1: P(late) of a terminal at the edge with `count` there, and of one alone."""
    return np.exp(-(2 - count * RATE) * DEADLINE), np.exp(-(1.05 - RATE) * DEADLINE)


@pytest.mark.parametrize("method", ["bracket", "simulation"])
def test_two_choices_against_the_closed_form(method):
    options = {"jobs": 20_000, "replications": 4, "rng": 3, "threads": 1} if method == "simulation" else {}
    found = best_paradigms(CELL, {"all": (COUNT, ["alone", "shared"])}, DEADLINE, method=method, **options)
    means = [(n * closed(n)[0] + (COUNT - n) * closed(n)[1]) / COUNT for n in range(COUNT + 1)]
    settled = [
        n
        for n in range(COUNT + 1)
        if (n == 0 or closed(n)[0] <= closed(n)[1]) and (n == COUNT or closed(n)[1] <= closed(n + 1)[0])
    ]
    assert settled == [10]
    slack = 0 if method == "bracket" else 1
    number = found.equilibria[0].counts["shared"]
    assert abs(number - 10) <= slack and len(found.equilibria) == 1
    assert abs(found.optimum.counts["shared"] - int(np.argmin(means))) <= slack
    assert found.optimum.low <= means[found.optimum.counts["shared"]] <= found.optimum.high
    assert found.price_low <= means[number] / min(means) <= found.price_high
    assert found.price_of_anarchy > 1.2 and found.method == method


def test_populations_keep_to_their_classes():
    """Two populations at one edge, and terminals that stay as they are."""
    weak = ei.Terminals(1, RATE, ei.Pipeline([ei.Exponential(5.0, "device")]), name="weak alone")
    helped = ei.Terminals(1, RATE, SHARED.pipeline, edge="edge", name="weak shared")
    other = ei.Terminals(3, RATE, SHARED.pipeline, edge="edge", name="other")
    cell = ei.Cell((ALONE, SHARED, weak, helped, other), (ei.EdgeNode(),))
    who = {"strong": (1, ["alone", "shared"]), "weak": (1, ["weak alone", "weak shared"])}
    found = best_paradigms(cell, who, DEADLINE)
    for each in (*found.equilibria, found.optimum):
        assert each.counts["alone"] + each.counts["shared"] == 1 and each.counts["other"] == 3
        assert each.counts["weak alone"] + each.counts["weak shared"] == 1
    assert found.optimum.counts["weak shared"] == 1
    assert all(each.certain for each in found.equilibria) and found.price_of_anarchy >= 1


def test_what_overloads_the_edge_is_nobodys_choice():
    slow = ei.Terminals(1, 0.5, ei.Pipeline([ei.Constant(1.0, "edge")]), edge="edge", name="slow")
    alone = ei.Terminals(1, 0.5, ei.Pipeline([ei.Constant(1.5, "device")]), name="alone")
    found = best_paradigms(ei.Cell((alone, slow), (ei.EdgeNode(),)), {"all": (4, ("alone", "slow"))}, 4.0)
    assert found.equilibria and all(each.counts["slow"] < 2 for each in found.equilibria)


def test_refusals():
    for populations, text in (
        ({}, "populations = {}: must be a mapping"),
        ({"all": 3}, r"populations\['all'\] = 3: must be \(number, names of classes\)"),
        ({"all": (3, [])}, "must have classes"),
        ({"all": (3, ["alone"]), "more": (2, ["alone", "shared"])}, "none of them twice"),
        ({"all": (3, ["split"])}, "name = 'split': must be one of"),
        ({"all": (0, ["alone"])}, r"populations\['all'\] = 0: must be"),
    ):
        with pytest.raises(ValueError, match=text):
            best_paradigms(CELL, populations, DEADLINE)
    with pytest.raises(ValueError, match="most = 5: must be at least 13, the divisions"):
        best_paradigms(CELL, {"all": (12, ["alone", "shared"])}, DEADLINE, most=5)
    with pytest.raises(ValueError, match="jobs: must be left out with method 'bracket'"):
        best_paradigms(CELL, {"all": (12, ["alone", "shared"])}, DEADLINE, jobs=5)
