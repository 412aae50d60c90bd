"""A bounded FIFO of jobs and the one thread that does them, singly or in batches."""

import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from edgeinfer import _validate


class QueueFull(Exception):
    """As many jobs wait as may wait."""


class Expired(Exception):
    """A job's deadline passed."""


class Cancelled(Exception):
    """Nobody waits for the result any more."""


class Job:
    """One unit of work.

    Parameters
    ----------
    key : hashable
        Jobs of equal keys may run as one batch.
    payload : object
    deadline : float, s
        On the monotonic clock; past it the job is not begun, and is given up between two steps.
    notify : callable
        Called without arguments, from the working thread, when the outcome is there.
    follow : bool
        Whether it is called after each step too.
    """

    def __init__(
        self, key: Hashable, payload: Any, deadline: float, notify: Callable[[], None], *, follow: bool = False
    ) -> None:
        self.key, self.payload, self.deadline, self.notify, self.follow = key, payload, deadline, notify, follow
        self.queued = time.monotonic()
        self.begun = self.ended = self.queued
        self.progress: tuple[int, int] | None = None
        self.result: Any = None
        self.error: Exception | None = None
        self.done = False
        self.cancelled = False
        #: Jobs of its batch, itself included.
        self.companions = 1

    def unwanted(self) -> Exception | None:
        """Why the job need not be done, or None."""
        if self.cancelled:
            return Cancelled("given up: the client has gone, or the edge shuts down")
        if time.monotonic() > self.deadline:
            return Expired("the deadline passed on the edge")
        return None

    def finish(self, result: Any = None, error: Exception | None = None) -> None:
        """Set the outcome and tell who waits."""
        self.ended = time.monotonic()
        self.result, self.error, self.done = result, error, True
        self.notify()


class Jobs:
    """First come, first served.

    Parameters
    ----------
    run : callable (jobs, progress) -> results
        Does a batch; `progress(done, total)` after each step raises when no job of the batch is wanted any more.
    capacity : int
        How many may wait, besides the batch that runs. >= 1.
    batch : int
        How many jobs of one key may run together. >= 1.

    Examples
    --------
    >>> jobs = Jobs(lambda batch, progress: [job.payload + 1 for job in batch], capacity=2)
    >>> ready = threading.Event()
    >>> job = Job("add", 1, time.monotonic() + 10, ready.set)
    >>> jobs.submit(job)
    0
    >>> ready.wait(10), job.result
    (True, 2)
    >>> jobs.close()
    """

    def __init__(
        self,
        run: Callable[[Sequence[Job], Callable[[int, int], None]], Sequence[Any]],
        *,
        capacity: int,
        batch: int = 1,
    ) -> None:
        self.capacity = _validate.whole("capacity", capacity, 1)
        self.batch = _validate.whole("batch", batch, 1)
        self._run = run
        self._waiting: deque[Job] = deque()
        self._running: list[Job] = []
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="jobs", daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        """Jobs waiting or running."""
        return len(self._waiting) + len(self._running)

    def submit(self, job: Job) -> int:
        """Queue a job; the answer is how many are before it.

        Raises
        ------
        QueueFull
            Saying the length.
        """
        with self._changed:
            if self._closed:
                raise QueueFull("the queue is closed")
            if len(self._waiting) >= self.capacity:
                raise QueueFull(f"queue full: {len(self._waiting)} of {self.capacity} places taken")
            before = len(self)
            self._waiting.append(job)
            self._changed.notify()
        return before

    def cancel(self, job: Job) -> None:
        """Give up a job; one that runs stops at its next step, unless others share its batch."""
        with self._changed:
            job.cancelled = True
            if job in self._waiting:
                self._waiting.remove(job)

    def close(self) -> None:
        """Take no more, fail what waits, and end the thread after the step that runs."""
        with self._changed:
            self._closed = True
            waiting = list(self._waiting)
            self._waiting.clear()
            for job in self._running:
                job.cancelled = True
            self._changed.notify()
        for job in waiting:
            job.finish(error=Cancelled("the edge shuts down"))
        self._thread.join()

    def _take(self) -> list[Job]:
        """The next batch, in order of arrival; empty when closed."""
        with self._changed:
            self._running = []
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if self._closed:
                return []
            first = self._waiting[0]
            same = [job for job in self._waiting if job.key == first.key][: self.batch]
            for job in same:
                self._waiting.remove(job)
            self._running = same
            return same

    def _work(self) -> None:
        while batch := self._take():
            wanted = []
            for job in batch:
                reason = job.unwanted()
                if reason is None:
                    wanted.append(job)
                else:
                    job.finish(error=reason)
            if wanted:
                self._do(wanted)

    def _do(self, batch: list[Job]) -> None:
        def progress(done: int, total: int) -> None:
            reasons = [job.unwanted() for job in batch]
            if all(reasons):
                raise next(reason for reason in reasons if reason)
            for job in batch:
                job.progress = (done, total)
                if job.follow:
                    job.notify()

        for job in batch:
            job.begun, job.companions = time.monotonic(), len(batch)
        try:
            results: Sequence[Any] = self._run(batch, progress)
            for job, result in zip(batch, results, strict=True):
                job.finish(result)
        except Exception as error:
            for job in batch:
                if not job.done:
                    job.finish(error=job.unwanted() or error)
