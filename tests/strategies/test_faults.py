"""Whatever fails, a session ends by its deadline, with a stated error or with the best so far, marked as that."""

import os
import signal
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from bridge.system import SOON, stub, wait

from edgeinfer import RayleighLink, strategies
from edgeinfer.bridge import Connection, EdgeError, Testbed, load_test, read_trace
from edgeinfer.bridge.run.user import Load
from edgeinfer.bridge.wire import tensors
from edgeinfer.strategies import (
    AgentError,
    Findings,
    LimitReached,
    Message,
    Picture,
    Plan,
    Request,
    Seed,
    Table,
    Team,
    collaborate,
)
from edgeinfer.strategies.bodies import NOISES
from edgeinfer.strategies.cooperating import _APART
from edgeinfer.strategies.run import SCRIPTS
from strategies import rules
from strategies.edges import served

pytestmark = pytest.mark.process
CAPTION = "a red circle above a small blue square on white"
NAMES = ("device_side", "edge_side", "collaborative")
#: Long enough for a busy machine, and far below what hangs.
SLACK = 5.0
WORK = "edgeinfer.strategies.work:Work"


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """Lets processes import the agents."""
    paths = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))


def hangs(*contents, progress=None):
    """An agent that never answers in time, and does not look at the time either."""
    time.sleep(3 * SLACK)


def polls(*contents, progress):
    """One that never ends, but tells of its steps."""
    for step in range(10**6):
        time.sleep(0.01)
        progress(step, 10**6)


@pytest.mark.parametrize("name", NAMES)
def test_over_the_link_as_in_one_process(name):
    with served(rules.team()) as address:
        there = collaborate(CAPTION, name, edge=address, device=rules.team(), rounds=1)
    here = collaborate(CAPTION, name, device=rules.team(), rounds=1)
    np.testing.assert_array_equal(there.image, here.image)
    assert there.reason == here.reason == "right"
    assert [(m.kind, m.bytes, m.direction) for m in there.messages] == [
        (m.kind, m.bytes, m.direction) for m in here.messages
    ]
    assert all((m.wire_bytes > m.bytes) == bool(m.direction) for m in there.messages)


@pytest.mark.parametrize("agent", [hangs, polls], ids=["hangs", "polls"])
@pytest.mark.parametrize("place", ["device", "edge in this process", "edge"])
def test_an_agent_that_never_ends(agent, place):
    slow, begin = rules.replaced(painter=agent), time.monotonic()
    name = "edge_side" if place == "device" else "device_side"
    with served(slow) as address:
        edge = {"device": rules.team(), "edge in this process": slow, "edge": address}[place]
        with pytest.raises((TimeoutError, EdgeError), match=r"deadline|DEADLINE_EXCEEDED"):
            collaborate(CAPTION, name, edge=edge, device=slow if place == "device" else rules.team(), deadline=0.5)
    assert time.monotonic() - begin < SLACK


def test_a_slow_edge_is_given_up_for_the_device():
    with served(rules.replaced(painter=hangs)) as address:
        done = collaborate(CAPTION, "device_side", edge=address, device=rules.team(), deadline=2.0, fallback=True)
    assert done.reason == "right" and done.seconds < 2.0 and "DEADLINE_EXCEEDED" in done.failures[0]
    assert done.proposals[0].painter == "painter@device"


LIES = {
    "another kind": (lambda *_, progress=None: Findings(), "answered with findings: must be Picture", "Findings"),
    "no content": (lambda *_, progress=None: None, "INVALID_ARGUMENT", "NoneType: must be Picture"),
    "cannot": (lambda *_, progress=None: Picture(np.zeros(3)), "INVALID_ARGUMENT", "pixels = float64"),
}


@pytest.mark.parametrize("lie", LIES)
def test_an_agent_that_answers_nonsense(lie):
    agent, remote, local = LIES[lie]
    lying = rules.replaced(painter=agent)
    with served(lying) as address, pytest.raises(EdgeError, match=remote):
        collaborate(CAPTION, "device_side", edge=address, device=rules.team())
    with pytest.raises((AgentError, ValueError), match=local):
        collaborate(CAPTION, "device_side", edge=lying, device=rules.team())


def test_an_agent_that_paints_something_else():
    """The round trip notices, and the picture is marked."""
    other = Picture(Table.of_caption("a red ring on white").replace(places=[strategies.Place(32, 32, 20)]).render())
    with served(rules.replaced(painter=lambda *_, progress=None: other)) as address:
        done = collaborate(CAPTION, "device_side", edge=address, device=rules.team())
    assert done.reason == "round limit" and done.best_so_far and done.proposals[0].findings.found
    np.testing.assert_array_equal(done.image, other.pixels)


def answer_of(data):
    """What an edge says to a message of these bytes."""
    with served(rules.team()) as address, stub(address) as calls:
        asked = tensors.request("painter", "x", {"0": np.frombuffer(data, np.uint8)}, {})
        with pytest.raises(Exception) as failure:
            calls.ModelInfer(asked, timeout=SOON)
    return failure.value.code().name, failure.value.details()


def test_messages_over_their_limits_are_refused_by_the_edge():
    good = Message(Seed(Table.of_caption(CAPTION)), "interpreter", left=1.0).to_bytes()
    assert answer_of(good + bytes(20)) == ("INVALID_ARGUMENT", "message: seed of 32 bytes: must be at most 18")
    over = bytearray(good)
    over[3] = 2
    assert "checksum" in answer_of(bytes(over))[1]
    late = Message(Seed(Table.of_caption(CAPTION)), "interpreter", left=0.0).to_bytes()
    assert answer_of(late) == ("DEADLINE_EXCEEDED", "round 1: no time is left for it")


def chatter(session):
    """Paints, then has plan after plan made."""
    session.begin_round()
    seed = yield from session.ask("device", "interpreter", Seed, session.request, sender="user@device")
    if session.request.noise:
        session.propose((yield from session.ask("device", "painter", Picture, seed)), "painter@device")
    while True:
        plan = Plan((seed.table.replace(colour_a=session.round % 8),))
        session.rounds = 255
        session.begin_round()
        yield from session.ask("device", "planner", Plan, plan)


def repaint(session):
    """Paints round after round, never pleased."""
    while True:
        session.begin_round()
        seed = yield from session.ask("device", "interpreter", Seed, session.request, sender="user@device")
        picture = yield from session.ask("edge", "painter", Picture, seed)
        number = session.propose(picture, "painter@edge", seed=seed)
        plan = Plan((Table.of_caption("a red ring").replace(places=[strategies.Place(9, 9, 9)], background=0),))
        session.judged(number, (yield from session.ask("device", "checker", Findings, picture, plan)))


@pytest.fixture(autouse=True)
def endless(monkeypatch):
    monkeypatch.setitem(SCRIPTS, "chatter", chatter)
    monkeypatch.setitem(SCRIPTS, "repaint", repaint)


def test_a_context_over_its_limit():
    talkative = rules.replaced(planner=lambda plan, *, progress=None: Plan(plan.tables * 3))
    with pytest.raises(LimitReached, match=r"context of 2.. bytes: must be at most 256"):
        collaborate(CAPTION, "chatter", device=talkative)
    done = collaborate(Request(CAPTION, noise=1), "chatter", device=talkative)
    assert done.reason == "context limit" and done.best_so_far and done.context_bytes <= 256


def test_rounds_without_end():
    done = collaborate(CAPTION, "repaint", device=rules.team(), rounds=4)
    assert (done.reason, done.rounds, len(done.proposals)) == ("round limit", 4, 4) and done.best_so_far
    slow = rules.slow_team()
    done = collaborate(CAPTION, "repaint", device=slow, rounds=255, deadline=1.0)
    assert done.reason == "deadline" and 1 <= len(done.proposals) <= 10 and done.seconds < 1.0 + SLACK


def test_an_edge_that_is_lost_after_a_picture():
    """What was painted is returned and marked."""
    calls = []

    def once(seed, *, progress=None):
        calls.append(seed)
        if len(calls) > 1:
            raise ArithmeticError("dead")
        return rules.painter(seed)

    with served(rules.replaced(painter=once)) as address:
        done = collaborate(CAPTION, "repaint", edge=address, device=rules.team(), rounds=9)
    assert done.reason == "edge lost" and len(done.proposals) == 1 and "INTERNAL" in done.failures[0]


def late(seed, *, progress=None):
    time.sleep(0.3)
    return rules.refiner(seed)


def lost(seed, *, progress=None):
    raise ValueError("no rest")


@pytest.mark.parametrize(("refiner", "patience", "bits"), [(late, SLACK, 6), (lost, 0.3, 2), (hangs, 0.3, 2)])
def test_the_device_begins_before_the_latent_is_whole(refiner, patience, bits):
    """The rest comes while it paints; or never, or too late, and then the sketch has to do."""
    seen = []

    def painter(seed, latent, *, progress=None):
        end = time.monotonic() + patience
        while not seen or (seen[-1].bits == 2 and time.monotonic() < end):
            seen.append(latent(len(seen)))
            time.sleep(0.01)
        return rules.painter(seed)

    with served(rules.replaced(refiner=refiner)) as address:
        options = {"edge": address, "device": rules.replaced(painter=painter), "deadline": 2 * SLACK}
        done = strategies.collaborative(CAPTION, early=True, **options)
    assert done.reason == "right" and done.seconds < 2 * SLACK
    assert seen[0].bits == 2 and seen[-1].bits == bits
    down = [(said.sender, said.bytes) for said in done.messages if said.direction == "down"]
    assert down == [("sketcher@edge", 205), ("refiner@edge", 397)][: 2 if bits == 6 else 1]
    if bits == 6:
        whole = rules.mapper(done.proposals[0].seed).values
        assert np.abs(seen[-1].values - whole).max() <= 1 / 3 / 15 + 1e-6


def test_a_sketch_that_does_not_come():
    options = {"edge": "127.0.0.1:1", "device": rules.team(), "deadline": SLACK, "early": True}
    with pytest.raises(EdgeError, match="UNAVAILABLE"):
        strategies.collaborative(CAPTION, **options)
    done = strategies.collaborative(CAPTION, fallback=True, **options)
    assert done.reason == "right" and "UNAVAILABLE" in done.failures[0] and done.up_bytes == 0
    with served(Team({role: rules.team()[role] for role in ("interpreter", "mapper", "painter")})) as address:
        with pytest.raises(EdgeError, match=r"model = 'sketcher': must be one of 'interpreter', 'mapper', 'painter'"):
            strategies.collaborative(CAPTION, **options | {"edge": address})


@pytest.mark.parametrize(("victim", "fallback"), [("edge", False), ("link", True)])
def test_kill_of_the_edge_or_the_link(tmp_path, victim, fallback):
    """Every request ends: failed by name, or right with the device's help where that is allowed."""
    link, team = RayleighLink(1e7, 31, -100, 100, 1e-3), "strategies.rules:slow_team"
    asked = strategies.work_load(NAMES, [Request(CAPTION)], deadline=20.0, fallback=fallback).asked
    outcome = []
    with Testbed("", link, uplink=link, work=WORK, settings={"team": team}, folder=tmp_path) as bed:
        load = Load(30, (np.arange(30) / 10).tolist())
        thread = threading.Thread(target=lambda: outcome.append(bed.ask(load, asked, SOON)))
        thread.start()
        wait(lambda: any(r["request"] == "5" and r["kind"] == "stage" for r in read_trace(bed.trace("edge"))))
        (bed.edge if victim == "edge" else bed.link).signal(signal.SIGKILL)
        thread.join(SOON)
    [rows] = outcome
    failed = [row for row in rows if row["failure"]]
    assert bool(failed) != fallback and all("edge: UNAVAILABLE" in row["failure"] for row in failed)
    done = [row["session"] for row in rows if row["done"]]
    assert len(done) + len(failed) == 30 and done and all(session["reason"] == "right" for session in done)
    assert any(session["failures"] for session in done) == fallback


def test_nothing_is_lost_or_answered_twice(tmp_path):
    """All strategies in turn, many in flight, each request known by its noise; EDGEINFER_FUZZ=1 asks for 1,000."""
    several = "cooperative", "competitive", "race", "ensemble", "review"
    count, names = (1000 if os.environ.get("EDGEINFER_FUZZ") == "1" else 200), (*NAMES, *several)
    requests = [Request(CAPTION, noise=k) for k in range(count)]
    asked = strategies.work_load(names, requests, rounds=3).asked
    arrivals = np.random.default_rng(3).exponential(0.01, count).cumsum().tolist()
    with Testbed("", work=WORK, settings={"team": "strategies.rules:team"}, folder=tmp_path) as bed:
        rows = bed.ask(Load(count, arrivals), asked, SOON + 10 * arrivals[-1])
        stages = [record for record in read_trace(bed.trace("edge")) if record["kind"] == "stage"]
    assert len(rows) == count and not any(row["failure"] for row in rows)
    sessions = [row["session"] for row in rows]
    assert [session["strategy"] for session in sessions] == [names[k % len(names)] for k in range(count)]
    assert all(session["reason"] == "right" for session in sessions)
    # A race may have no picture but the edge's, whose noise is the second.
    noises = [session["proposals"][0]["noise"] for session in sessions]
    for k, noise in enumerate(noises):
        assert noise == k or (names[k % len(names)] == "race" and noise == (k + _APART) % NOISES)
    # The edge worked once for each that asked it, and a race alone may have gone without its answer.
    worked = Counter(each["request"] for each in stages if each["name"] != "queue" and each["request"] != "warm-up")
    said = {str(k) for k, row in enumerate(sessions) if any(step["place"] == "edge" for step in row["steps"])}
    assert set(worked.values()) == {1} and said <= set(worked)
    assert {names[int(k) % len(names)] for k in set(worked) - said} <= {"race"}


def test_requests_that_say_what_they_ask_for_take_no_caption():
    load = strategies.work_load("device_side", [Request(CAPTION)], team="strategies.rules:team")
    with pytest.raises(ValueError, match="caption: must be left out"):
        load_test(load, 1.0, 1, caption="a red circle")


def test_two_sessions_at_once():
    """A connection serves several threads."""
    with served(rules.team()) as address, Connection(address) as connection:
        results = {}

        def ask(number):
            results[number] = collaborate(
                Request(CAPTION, noise=number), "device_side", edge=connection, device=rules.team()
            )

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SOON)
    assert [results[k].proposals[0].seed.noise for k in range(8)] == list(range(8))
