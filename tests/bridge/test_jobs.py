import threading
import time

import pytest

from edgeinfer.bridge.wire.jobs import Cancelled, Expired, Job, Jobs, QueueFull

SOON = 30.0


class Gate:
    """A run function that waits at its first step until opened, and remembers its batches."""

    def __init__(self):
        self.open, self.entered, self.batches = threading.Event(), threading.Event(), []

    def __call__(self, batch, progress):
        self.batches.append([job.payload for job in batch])
        self.entered.set()
        assert self.open.wait(SOON)
        progress(1, 2)
        progress(2, 2)
        return [10 * job.payload for job in batch]


@pytest.fixture
def gate():
    return Gate()


@pytest.fixture
def jobs(gate):
    jobs = Jobs(gate, capacity=3, batch=2)
    yield jobs
    gate.open.set()
    jobs.close()


def job(payload, key="k", seconds=SOON):
    ready = threading.Event()
    made = Job(key, payload, time.monotonic() + seconds, lambda: ready.set() if made.done else None)
    made.ready = ready
    return made


def test_order_batches_and_bound(jobs, gate):
    first = job(0)
    assert jobs.submit(first) == 0
    assert gate.entered.wait(SOON)
    rest = [job(1, "a"), job(2, "b"), job(3, "a")]
    assert [jobs.submit(each) for each in rest] == [1, 2, 3]
    with pytest.raises(QueueFull, match="queue full: 3 of 3 places taken"):
        jobs.submit(job(4))
    gate.open.set()
    assert all(each.ready.wait(SOON) for each in [first, *rest])
    assert [each.result for each in [first, *rest]] == [0, 10, 20, 30]
    assert gate.batches == [[0], [1, 3], [2]]
    assert first.progress == (2, 2)


def test_who_follows_hears_of_every_step(jobs, gate):
    calls = {True: [], False: []}
    made = {}
    for follow in calls:
        made[follow] = Job(
            "k", 1, time.monotonic() + SOON, lambda f=follow: calls[f].append(made[f].progress), follow=follow
        )
        jobs.submit(made[follow])
    gate.open.set()
    end = time.monotonic() + SOON
    while not all(each.done for each in made.values()) and time.monotonic() < end:
        time.sleep(0.01)
    assert calls == {True: [(1, 2), (2, 2), (2, 2)], False: [(2, 2)]}


def test_cancelled_and_expired(jobs, gate):
    running, waiting, late = job(0), job(1), job(2, seconds=0.0)
    for each in (running, waiting, late):
        jobs.submit(each)
        assert gate.entered.wait(SOON)
    jobs.cancel(waiting)
    assert len(jobs) == 2
    jobs.cancel(running)
    gate.open.set()
    assert running.ready.wait(SOON) and late.ready.wait(SOON)
    assert isinstance(running.error, Cancelled) and isinstance(late.error, Expired)
    assert gate.batches == [[0]]


def test_one_of_a_batch_may_go(jobs, gate):
    blocker, first, second = job(0, "x"), job(1), job(2)
    for each in (blocker, first, second):
        jobs.submit(each)
        assert gate.entered.wait(SOON)
    first.cancelled = True
    gate.open.set()
    assert first.ready.wait(SOON) and second.ready.wait(SOON)
    assert isinstance(first.error, Cancelled) and second.result == 20


def test_an_error_fails_its_batch_alone():
    def run(batch, progress):
        return [1 / job.payload for job in batch]

    jobs = Jobs(run, capacity=2)
    bad, good = job(0), job(4)
    jobs.submit(bad)
    jobs.submit(good)
    assert bad.ready.wait(SOON) and good.ready.wait(SOON)
    assert isinstance(bad.error, ZeroDivisionError) and good.result == 0.25
    jobs.close()
    with pytest.raises(QueueFull, match="closed"):
        jobs.submit(job(1))


def test_close_fails_what_waits(gate):
    jobs = Jobs(gate, capacity=2)
    running, waiting = job(1), job(2)
    jobs.submit(running)
    assert gate.entered.wait(SOON)
    jobs.submit(waiting)
    gate.open.set()
    jobs.close()
    assert running.done and (waiting.error is None or isinstance(waiting.error, Cancelled))
