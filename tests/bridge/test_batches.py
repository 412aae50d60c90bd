"""Requests that run together on an edge: which may, what they give, and what is refused."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
from onnx import helper

import edgeinfer as ei
from bridge import networks
from edgeinfer import bridge
from edgeinfer.bridge.edge.server import listen
from edgeinfer.bridge.wire import tensors
from edgeinfer.bridge.work.batches import Batches

pytestmark = pytest.mark.process
SHAPES = {"x": (1, 8)}


def model(mixing=False, rows="n"):
    """Two layers; `mixing` subtracts the mean over the rows between them."""
    rng = np.random.default_rng(0)
    weights = {name: rng.standard_normal((8, 8)).astype(np.float32) for name in ("v", "w")}
    nodes = [helper.make_node("MatMul", ["x", "v"], ["a"]), helper.make_node("Tanh", ["a"], ["b"])]
    if mixing:
        nodes.append(helper.make_node("ReduceMean", ["b"], ["m"], axes=[0], keepdims=1))
        nodes.append(helper.make_node("Sub", ["b", "m"], ["c"]))
    nodes.append(helper.make_node("MatMul", ["c" if mixing else "b", "w"], ["y"]))
    return networks.model(nodes, {"x": [rows, 8]}, {"y": [rows, 8]}, weights)


@contextmanager
def serving(made, batch):
    """An edge in this process, its address, and how many requests ran at once; the first run takes a while."""
    edge = bridge.CutEdge(bridge.CutSessions(made, SHAPES), batch=batch, capacity=64)
    ran, run = [], edge.work.run

    def slow(tasks, progress):
        time.sleep(0.0 if ran else 0.3)
        ran.append(len(tasks))
        return run(tasks, progress)

    edge.work.run = slow
    server, port = listen(edge, "127.0.0.1", 0)
    try:
        yield edge, f"127.0.0.1:{port}", ran
    finally:
        server.stop(0).wait()
        edge.jobs.close()


def ask_together(made, address, count, places):
    """Outputs of requests with inputs of their own, asked at once by as many devices, and of the network run here."""
    sessions = bridge.CutSessions(made, SHAPES)
    inputs = np.random.default_rng(1).standard_normal((count, 1, 8)).astype(np.float32)
    whole = sessions.get(("x",), ("y",))
    division = bridge.divide(sessions.graph, places)
    ready = threading.Barrier(count)

    def ask(x):
        with bridge.Connection(address) as connection, bridge.CutDevice(sessions, connection) as device:
            device.use(division)
            ready.wait()
            return device.infer({"x": x}, deadline=60).outputs["y"]

    with ThreadPoolExecutor(count) as pool:
        found = list(pool.map(ask, inputs))
    return found, [whole.run({"x": x})[0]["y"] for x in inputs]


@pytest.mark.parametrize("places", [(1, 1, 1), (0, 0, 1)])
def test_requests_that_wait_run_together(places):
    made = model()
    with serving(made, 4) as (edge, address, ran):
        for _ in range(2):
            found, expected = ask_together(made, address, 12, places)
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
        assert sum(ran) == 24 and 1 < max(ran) <= 4
        assert edge.batches.rows == {"x", "a", "b", "y"}


def test_rows_that_depend_on_one_another_run_alone():
    made = model(mixing=True)
    with serving(made, 8) as (edge, address, ran):
        for _ in range(2):
            found, expected = ask_together(made, address, 8, (1,) * 5)
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
        assert max(ran) > 1 and list(edge.batches._independent.values()) == [False]


def test_without_a_batch_or_a_free_axis_requests_run_alone():
    for made, batch in ((model(), 1), (model(rows=1), 4)):
        with serving(made, batch) as (edge, address, ran):
            found, expected = ask_together(made, address, 4, (1, 1, 1))
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
            assert ran == [1] * 4 and not edge.batches.rows


def test_a_client_may_send_several_rows():
    made = model()
    sessions = bridge.CutSessions(made, SHAPES)
    rows = np.random.default_rng(1).standard_normal((5, 8)).astype(np.float32)
    with serving(made, 4) as (_, address, _), bridge.Connection(address) as connection:
        told = connection.ask(connection.metadata, tensors.service().ModelMetadataRequest(name="network"), 10)
        assert [list(port.shape) for port in (*told.inputs, *told.outputs)] == [[-1, 8], [-1, 8]]
        answer = connection.ask(connection.infer, tensors.request("network", "1", {"x": rows[:4]}, {}), 10)
        (found,) = tensors.arrays(answer.outputs, answer.raw_output_contents).values()
        whole = [sessions.get(("x",), ("y",)).run({"x": row[None]})[0]["y"][0] for row in rows[:4]]
        np.testing.assert_allclose(found, whole, rtol=1e-5, atol=1e-6)
        for wrong in (rows, rows[:0], rows[:4, :7], rows[0]):
            with pytest.raises(bridge.EdgeError, match=r"must be \[1 to 4, 8\]"):
                connection.ask(connection.infer, tensors.request("network", "1", {"x": wrong}, {}), 10)
        with bridge.CutDevice(sessions, connection) as device:
            assert device.edge_cut().places == (1, 1, 1)


def test_parts_of_several_rows_fill_a_batch_and_no_more():
    sessions = bridge.CutSessions(model(), SHAPES)
    batches = Batches(sessions, 4)
    session = sessions.get(("x",), ("y",), batched=True)
    rows = np.random.default_rng(1).standard_normal((9, 8)).astype(np.float32)
    parts = [rows[:1], rows[1:4], rows[4:6], rows[6:9]]
    for _ in range(2):
        found = [given["y"] for given, _ in batches.run(session, [{"x": part} for part in parts], [1, 3, 2, 3])]
        assert [len(part) for part in found] == [1, 3, 2, 3]
        np.testing.assert_allclose(np.concatenate(found), session.run({"x": rows})[0]["y"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("limit", [0, -1, 1.5])
def test_limits_that_are_none(limit):
    with pytest.raises(ValueError, match="batch = "):
        bridge.CutEdge(bridge.CutSessions(model(), SHAPES), batch=limit)


def test_a_cut_says_the_sizes_that_its_file_leaves_free():
    profile = bridge.profile(model(), SHAPES, repetitions=2)
    link = ei.RayleighLink(1e5, 23, -100, 103, 0.001)
    cut = bridge.Cut(profile, (profile.node("device"), profile.node("edge")), (link,), (link,), (0, 1, 1))
    run = bridge.measure_cut(model(), bridge.profile_cut(model(), cut, repetitions=2, warmup=0), requests=2)
    assert not run.failures and run.provenance["shapes"] == {"x": [1, 8]}
