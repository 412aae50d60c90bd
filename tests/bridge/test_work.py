"""A third kind of work, made in one file, is served, asked under load and measured as the first two are."""

import itertools
import os
import signal
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import grpc
import numpy as np
import pytest

from bridge import system, tally
from bridge.system import SOON
from edgeinfer import RayleighLink
from edgeinfer.bridge import Testbed, load_test, load_tests, read_trace
from edgeinfer.bridge.device.client import Aside, Client, Compute
from edgeinfer.bridge.edge.server import listen
from edgeinfer.bridge.run.load import WorkLoad
from edgeinfer.bridge.run.user import Load, User
from edgeinfer.bridge.wire import tensors

pytestmark = pytest.mark.process
WORK, COUNT = "bridge.tally:Work", 30


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """Lets the processes import the toy."""
    paths = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))


def rounds(value):
    """Rounds until at most 1 is left, by the rules of the game."""
    count = 0
    while value > 1:
        value, count = value // 2, count + 1
        value += value % 2 if value > 1 else 0
    return count


@pytest.mark.parametrize("rate", [0.0, 200.0])
def test_several_rounds_between_processes(tmp_path, rate):
    """Requests one after the other, or in flight together: rounds over a shaped link, with computing between them."""
    link = RayleighLink(1e7, 31, -100, 100, 1e-3)
    with Testbed("", link, uplink=link, work=WORK, folder=tmp_path) as bed:
        load = Load(COUNT, (np.arange(COUNT) / rate).tolist() if rate else [], slowdown=2.0, extra=1e-3)
        rows = bed.ask(load, {"first": 14}, SOON, traced=True)
        records = read_trace(*map(bed.trace, ("edge", "link", "device")))
    expected = [rounds(14 + number) for number in range(COUNT)]
    assert [row["failure"] for row in rows] == [None] * COUNT and [row["rounds"] for row in rows] == expected
    for row in rows:
        assert row["value"] <= 1
        assert [step[0] for step in row["steps"]] == ["edge", "device"] * (row["rounds"] - 1) + ["edge"]
        times = [row["arrival"], *(when for _, due, begin, end, _ in row["steps"] for when in (due, begin, end))]
        assert times == sorted(times) and times[-1] <= row["done"]
        assert all(end - begin >= asleep >= 1e-3 for name, _, begin, end, asleep in row["steps"] if name == "device")
    # One processor: what the device computes does not overlap.
    computed = sorted(step[2:4] for row in rows for step in row["steps"] if step[0] == "device")
    assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(computed))
    halved = [r["request"] for r in records if r["process"] == "edge" and r["kind"] == "stage" and r["name"] == "edge"]
    assert [halved.count(str(number)) for number in range(COUNT)] == expected
    assert sum(r["process"] == "device" and r["name"] == "done" for r in records) == COUNT
    assert any(r["kind"] == "chunk" and r["direction"] == "up" for r in records)


def test_who_came_first_has_the_device_for_all_its_steps():
    """Requests of three steps, each read aside before: reading waits for no step, and nobody's steps come between.

    The second's first step falls due while the first computes, before the first's second one does.
    """
    done, reading = [], threading.Event()

    def step(number, name):
        if name == "0" and number == 0:
            assert reading.wait(SOON), "reading waited for the device"
        done.append((number, name))

    def script(number, request):
        yield Aside(lambda: reading.set() if number == 2 else None)
        for name in "012":
            yield Compute(lambda name=name: step(number, name))
        return number

    client = Client()
    work = SimpleNamespace(client=client, script=script, row=lambda number: {"number": number})
    user = User(work, Load(3, [0.0, 0.02, 0.04]))
    user.run()
    assert done == [(number, name) for number in range(3) for name in "012"]
    rows = user.rows()
    assert [row["number"] for row in rows] == [0, 1, 2] and client.queue_length == 0
    assert all([step[0] for step in row["steps"]] == ["aside", "device", "device", "device"] for row in rows)


def test_one_after_the_other_through_the_link():
    """Without an arrival rate requests meet no other, and what crosses is counted both ways."""
    link = RayleighLink(1e7, 31, -100, 100, 1e-3)
    done = load_test(WorkLoad("halving", WORK, {"first": 14}), None, 6, link=link)
    assert done.arrival_rate is None and done.failures == {}
    assert (np.diff(done.arrivals) > done.sojourn[:-1, 0]).all()
    asked = np.mean([rounds(14 + number) for number in range(6)])
    # A message of each round, of less than 1 KiB with what is around it, and more than its 8 bytes of content.
    for bits in (done.uplink_bits, done.downlink_bits):
        assert 64 * asked < bits < 8192 * asked


def test_kill_of_the_edge_between_rounds(tmp_path):
    """What was answered stays; everything else fails by name."""
    outcome = []
    with Testbed("", work=WORK, folder=tmp_path) as bed:
        load = Load(200, (np.arange(200) / 20).tolist())
        thread = threading.Thread(target=lambda: outcome.append(bed.ask(load, {"first": 14}, SOON)))
        thread.start()
        system.wait(lambda: any(r["request"] == "20" for r in read_trace(bed.trace("edge"))))
        bed.edge.signal(signal.SIGKILL)
        thread.join(SOON)
    [rows] = outcome
    assert any(row["done"] for row in rows) and any(row["failure"] for row in rows)
    assert all((row["failure"] is None) == (row["done"] is not None) for row in rows)
    assert all("edge: UNAVAILABLE" in row["failure"] for row in rows if row["failure"])


@contextmanager
def served(**settings):
    edge = tally.Work(**settings).edge(capacity=3, limit=SOON)
    server, port = listen(edge, "127.0.0.1", 0)
    try:
        with system.stub(f"127.0.0.1:{port}") as calls:
            yield calls
    finally:
        edge.jobs.close()
        server.stop(None).wait(SOON)


def number(value, identifier):
    return tensors.request("halve", identifier, {"n": np.array([value])}, {})


def test_streams_together_fail_alone():
    with served() as calls:
        asked = [number(value, str(value)) for value in (13, -1, 40)] + [tensors.request("other", "x", {}, {})]
        pieces = {piece.infer_response.id: piece for piece in calls.ModelStreamInfer(iter(asked), timeout=SOON)}
    assert pieces["13"].error_message == "ArithmeticError in 'halve' on the edge"
    assert pieces["-1"].error_message == "inputs: must be n, one number >= 0"
    assert pieces["x"].error_message == "model = 'other': must be 'halve'"
    answer = pieces["40"].infer_response
    assert tensors.arrays(answer.outputs, answer.raw_output_contents)["n"].tolist() == [20]
    told = {name: tensors.parameters(piece.infer_response).get("status") for name, piece in pieces.items()}
    assert told == {"13": "INTERNAL", "-1": "INVALID_ARGUMENT", "x": "NOT_FOUND", "40": None}


def test_streams_in_turn_end_with_the_first_failure():
    """And tell of the steps of each request."""
    answered, steps = [], []
    with served(together=False, slow=4) as calls:
        with pytest.raises(grpc.RpcError) as failure:
            for piece in calls.ModelStreamInfer(
                iter([number(40, "a"), number(-1, "b"), number(40, "c")]), timeout=SOON
            ):
                told = tensors.parameters(piece.infer_response)
                steps += [(told["step"], told["steps"])] if told else []
                answered += [] if told else [piece.infer_response.id]
        assert failure.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert failure.value.details() == "inputs: must be n, one number >= 0"
        start = time.monotonic()
        with pytest.raises(grpc.RpcError) as failure:
            list(calls.ModelStreamInfer(iter([number(40, "a"), number(40, "b")]), timeout=0.3))
        assert failure.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED and time.monotonic() - start < SOON / 2
    assert answered == ["a"] and steps == sorted(steps) and 1 <= len(steps) <= 4


def test_rows_that_come_late_are_not_those_of_the_next_load():
    with Testbed("", work=WORK) as bed, bed.user(Load(0, []), {"first": 14}) as user:
        with pytest.raises(TimeoutError, match=r"no line within 0\.01 s"):
            user.ask(Load(2, [0.5, 0.6]), 0.01)
        with pytest.raises(OSError, match="device: has ended: must be started anew"):
            user.ask(Load(1, []), SOON)


def test_load_tests_in_the_same_processes():
    """A second test goes on where the first stopped; its bits and times are its own."""
    with load_tests(WorkLoad("halving", WORK, {"first": 14}), link=RayleighLink(1e7, 31, -100, 100, 1e-3)) as test:
        done = [test(4), test(0.05 * np.arange(3)), test([0.0])]
        with pytest.raises(ValueError, match="ascending"):
            test([1.0, 0.5])
    assert [len(each.rows) for each in done] == [4, 3, 1] and done[1].arrival_rate == pytest.approx(30)
    assert [row["rounds"] for each in done for row in each.rows] == [rounds(14 + number) for number in range(8)]
    np.testing.assert_allclose(done[1].arrivals, [0.0, 0.05, 0.1])
    assert all(64 < each.downlink_bits / rounds(14) < 8192 and not each.failures for each in done)
