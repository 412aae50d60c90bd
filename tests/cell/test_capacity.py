"""Searches over cells: certified and simulated answers, and what they refuse."""

from dataclasses import replace

import numpy as np
import pytest

import edgeinfer as ei
from edgeinfer.cell import best_batch, min_bandwidth, min_servers

SPLIT = ei.paper.scenario().pipelines()["split"]
CELL = ei.Cell(ei.Terminals(1, 0.02, SPLIT, edge="prior"), ei.EdgeNode())
GPU = ei.Pipeline([ei.Exponential(0.5, "gpu")])


def test_the_certified_number_of_terminals_is_the_last_that_keeps_the_target():
    found = ei.max_terminals(CELL, 6.0, 1e-3)
    assert found.low == found.value <= found.high
    assert ei.cell_bracket(CELL.with_count(found.value), 6.0).upper <= 1e-3
    assert ei.cell_bracket(CELL.with_count(found.high + 1), 6.0).lower > 1e-3
    assert ei.max_terminals(CELL, 1.0, 1e-3).value == 0  # shorter than the services


def test_simulation_finds_the_number_that_a_closed_form_gives():
    """M/M/1 under processor sharing has no certified ends; as FIFO, P(W > T) = e^{-(mu - rate) T}."""
    fifo = ei.Cell(ei.Terminals(1, 0.1, GPU, edge="gpu"), ei.EdgeNode(1, "edf"))  # one class: EDF is FIFO
    found = ei.max_terminals(fifo, 5.0, 0.05, method="simulation", rng=1, threads=1, jobs=10_000)
    exact = int(np.floor((2 - np.log(20) / 5) / 0.1))
    assert found.low <= exact <= found.high and abs(found.value - exact) <= 1
    assert found.high - found.low <= 3


def test_lost_requests_are_late():
    cell = ei.Cell(ei.Terminals(1, 0.1, GPU, edge="gpu"), ei.EdgeNode(capacity=1))
    # Erlang's loss alone: load / (1 + load) = 0.2 at 5 terminals.
    found = ei.max_terminals(cell, 100.0, 0.21, method="simulation", rng=2, threads=1)
    assert found.low <= 5 <= found.high


def test_servers_and_bandwidth():
    many = CELL.with_count(100)
    assert min_servers(many, 6.0, 1e-3).value == 3
    with pytest.raises(ValueError, match="most = 4: must be more"):
        min_servers(many, 1.0, 1e-3, most=4)
    # What may be tried at most is tried, too: it need be no power of two.
    assert min_servers(many, 6.0, 1e-3, most=3).value == 3
    with pytest.raises(ValueError, match="most = 2: must be more"):
        min_servers(many, 6.0, 1e-3, most=2)
    cell = CELL.with_count(10).replace(downlink=ei.Band(20e6, "dedicated"))
    found = min_bandwidth(cell, 4.0, 1e-3)
    assert found.low <= found.value == found.high
    kept = replace(cell.downlink, bandwidth=found.value)
    assert ei.cell_bracket(cell.replace(downlink=kept), 4.0).upper <= 1e-3
    for given in (found.value / 1.9, 20e6):
        again = min_bandwidth(cell.replace(downlink=ei.Band(given, "dedicated")), 4.0, 1e-3, most=1.2 * found.value)
        assert again.value == pytest.approx(found.value, rel=0.011) and again.value <= 1.2 * found.value


def test_batches_are_compared():
    stage = ei.Pipeline([ei.Constant(0.1, "gpu")])
    cell = ei.Cell(ei.Terminals(10, 2.0, stage, edge="gpu"), ei.EdgeNode(batch=ei.Batching(1, fixed=0.08, each=0.01)))
    best, found = best_batch(cell, 0.5, [1, 4, 16], [0.0, 0.2], jobs=5_000, replications=4, rng=1, threads=1)
    assert found[1, 0.0].value == 1  # 20 requests a second of 0.09 s each
    assert best.limit > 1 and best.wait == 0 and best.fixed == 0.08


def test_refusals():
    with pytest.raises(ValueError, match="probability = 1: must be in"):
        ei.max_terminals(CELL, 6.0, 1.0)
    with pytest.raises(ValueError, match="jobs: must be left out with method 'bracket'"):
        ei.max_terminals(CELL, 6.0, 0.1, jobs=3)
    with pytest.raises(ValueError, match="band = 'downlink': must be one that the cell has"):
        min_bandwidth(CELL, 6.0, 0.1)
    with pytest.raises(ValueError, match="band = 'uplink': must be one over which some terminals send"):
        min_bandwidth(CELL.replace(uplink=ei.Band(1e6)), 6.0, 0.1, band="uplink")
    with pytest.raises(ValueError, match="cell = 3: must be a Cell"):
        ei.max_terminals(3, 6.0, 0.1)
    with pytest.raises(ValueError, match="jbos: must be options of simulate_cell, jobs, "):
        ei.max_terminals(CELL, 6.0, 0.1, method="simulation", jbos=3)
    batching = CELL.replace(edges=ei.EdgeNode(batch=ei.Batching(2)))
    with pytest.raises(ValueError, match=r"limits = \[\]: must have at least one value"):
        best_batch(batching, 6.0, [])
    with pytest.raises(ValueError, match="or method 'simulation', since cell_bracket does not certify"):
        min_servers(CELL.replace(edges=ei.EdgeNode(1, "processor_sharing")), 6.0, 1e-3, most=4)
    with pytest.raises(ValueError, match="cell = 3: must be a Cell"):
        ei.cell.loads(3)


def test_batches_are_compared_whatever_holds_limits_and_waits():
    edge = ei.EdgeNode(batch=ei.Batching(2, fixed=0.01, each=0.01))
    cell = ei.Cell(ei.Terminals(2, 1.0, ei.Pipeline([ei.Constant(0.1, "gpu")]), edge=0), edge)
    _, found = best_batch(cell, 0.5, iter([1, 2]), iter([0.0, 0.1]), jobs=50, replications=1, rng=1)
    assert list(found) == [(1, 0.0), (1, 0.1), (2, 0.0), (2, 0.1)]
