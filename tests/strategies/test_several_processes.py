"""Several subjects over a link: as in one process, and ended by the deadline whatever fails."""

import time

import numpy as np
import pytest

from edgeinfer import strategies
from edgeinfer.strategies import Attempt, Findings, Picture, Rules, Spreads, Verdict
from strategies import rules
from strategies.edges import served

pytestmark = pytest.mark.process
CAPTION = "a red circle above a small blue square on white"
RULES = Rules(Spreads(1.0, 1.0, 1.0), 1.0, 1.0)
#: By three painters, one of them on the edge.
NAMES = ("cooperative", "competitive", "race", "ensemble", "review")


@pytest.fixture(scope="module")
def address():
    with served(rules.team()) as where:
        yield where


def wrong(seed, latent=None, *, progress=None):
    """Paints black."""
    return Picture(np.zeros((64, 64, 3), np.uint8))


def hangs(*contents, progress=None):
    """Never answers in time."""
    time.sleep(15)


def counted(call):
    calls = []

    def agent(*contents, progress=None):
        calls.append(contents)
        return call(*contents, progress=progress)

    return agent, calls


@pytest.mark.parametrize("name", NAMES)
def test_over_the_link_as_in_one_process(address, name):
    """The device paints wrongly, so that the edge has to."""
    device = rules.replaced(painter=wrong)
    options = {"device": device, "rules": RULES}
    there = getattr(strategies, name)(CAPTION, edge=address, **options)
    here = getattr(strategies, name)(CAPTION, edge=rules.team(), **options)
    np.testing.assert_array_equal(there.image, here.image)
    if name == "ensemble":
        # Two of three are wrong alike.
        assert there.reason == here.reason == "round limit"
    else:
        assert there.reason == here.reason == "right" and there.image.any()
    crossed = [(m.kind, m.bytes, m.direction) for m in there.messages if m.direction]
    assert crossed == [("seed", 29, "up"), ("picture", crossed[1][1], "down")]
    assert there.context_bytes <= 256


def test_a_race_does_not_wait_for_an_edge_that_hangs():
    with served(rules.replaced(painter=hangs)) as where:
        done = strategies.race(CAPTION, edge=where, device=rules.team(), rules=RULES, deadline=10.0)
    assert done.reason == "right" and done.seconds < 5 and done.proposals[0].painter == "painter@device"


def test_a_race_takes_the_edge_s_picture_if_that_is_there_first(address):
    """The device's first one is wrong and takes long: the edge's answer has come by then, and is taken next."""

    def slow(seed, latent=None, *, progress=None):
        time.sleep(0.5)
        return wrong(seed)

    agent, calls = counted(slow)
    device = rules.replaced(painter=agent)
    done = strategies.race(CAPTION, edge=address, device=device, rules=RULES)
    assert done.reason == "right" and len(calls) == 1
    assert [each.painter for each in done.proposals] == ["painter@device", "painter@edge"]


@pytest.mark.parametrize("name", ["cooperative", "competitive", "ensemble", "race", "review"])
def test_an_edge_that_hangs_costs_no_more_than_the_deadline(name):
    """What the device painted is the best so far."""
    with served(rules.replaced(painter=hangs)) as where:
        begin = time.monotonic()
        options = {"edge": where, "device": rules.replaced(painter=wrong), "rules": RULES, "deadline": 1.0}
        done = getattr(strategies, name)(CAPTION, **options)
    assert done.best_so_far and done.proposals and time.monotonic() - begin < 8


def test_an_edge_that_is_lost_leaves_the_device_alone(address):
    options = {"device": rules.replaced(painter=wrong), "rules": RULES, "deadline": 5.0}
    gone = "127.0.0.1:1"
    done = strategies.cooperative(CAPTION, edge=gone, fallback=True, **options)
    assert done.reason == "round limit" and len(done.proposals) == 3 and "UNAVAILABLE" in done.failures[0]
    assert {each.painter for each in done.proposals} == {"painter@device"}
    done = strategies.cooperative(CAPTION, edge=gone, **options)
    assert done.reason == "edge lost" and len(done.proposals) == 2


def test_a_judge_that_lies():
    """A number that is no proposal's is refused by the message or falls on one; the checkers have the last word."""
    device = rules.replaced(judge=lambda *_, progress=None: Verdict(200, True), painter=wrong)
    done = strategies.competitive(CAPTION, edge=rules.replaced(painter=wrong), device=device, rules=RULES)
    assert done.reason == "round limit" and done.chosen == (2,)
    device = rules.replaced(judge=lambda *_, progress=None: Findings())
    with pytest.raises(OSError, match="judge on device: answered with Findings: must be Verdict"):
        strategies.competitive(CAPTION, device=device, rules=RULES)


def test_attempts_are_the_caller_s(address):
    agent, calls = counted(wrong)
    attempts = [Attempt("device", 2, 1), Attempt("device", 3, 2)]
    device = rules.replaced(painter=agent)
    done = strategies.cooperative(CAPTION, edge=address, device=device, rules=RULES, attempts=attempts, rounds=4)
    assert [(seed.prior_steps, seed.decode_steps) for (seed,) in calls] == [(2, 1), (3, 2), (3, 2), (3, 2)]
    assert done.reason == "round limit" and done.up_bytes == 0
    with pytest.raises(ValueError, match="place = 'moon': must be one of 'device', 'edge'"):
        Attempt("moon", 1, 1)
