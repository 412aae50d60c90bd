"""The system's processes as children of this one: started, awaited and always ended."""

import os
import queue
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress


class Process:
    """A child that runs this package's code; leaving the `with` block kills it.

    The child's stdin stays open as long as this process lives, so that a child that watches it (`exit_with_stdin`) ends
    even when this process is killed.

    Parameters
    ----------
    arguments : sequence of str
        After the interpreter, e.g. ("-m", "edgeinfer.bridge.run.start").
    name : str
        For error messages.
    """

    def __init__(self, arguments: Sequence[str], name: str) -> None:
        self.name = name
        self._errors = tempfile.TemporaryFile()
        environment = os.environ | {"GRPC_VERBOSITY": "NONE", "PYTHONUNBUFFERED": "1"}
        self._process = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=environment,
        )
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def _read(self) -> None:
        assert self._process.stdout is not None
        with suppress(ValueError):
            for line in self._process.stdout:
                self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def line(self, seconds: float) -> str:
        """The next line of its output.

        Raises
        ------
        OSError
            If it ended, with the last of what it wrote to stderr, or wrote nothing within `seconds`.
        """
        try:
            text = self._lines.get(timeout=seconds)
        except queue.Empty:
            raise TimeoutError(f"{self.name}: no line within {seconds:g} s: {self.errors()}") from None
        if text is None:
            self._process.wait(10)
            raise OSError(f"{self.name}: ended with code {self._process.returncode}: {self.errors()}")
        return text

    def port(self, seconds: float = 60.0) -> int:
        """The port of its "listening on HOST:PORT" line."""
        return int(self.line(seconds).rpartition(":")[2])

    def send(self, line: str) -> None:
        """A line to its stdin."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def hang_up(self) -> None:
        """Close its stdin, as the death of this process would."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def signal(self, number: int) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def wait(self, seconds: float) -> int:
        """Its exit code; TimeoutError if it lasts longer than `seconds`."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"{self.name}: still runs after {seconds:g} s") from None

    def errors(self) -> str:
        """The last of what it wrote to stderr."""
        self._errors.flush()
        length = os.fstat(self._errors.fileno()).st_size
        return os.pread(self._errors.fileno(), 2000, max(length - 2000, 0)).decode(errors="replace").strip()

    def stop(self) -> None:
        """Terminate, kill after two seconds, and collect it."""
        if self.running:
            self._process.terminate()
            try:
                self._process.wait(2)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._reader.join(5)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with suppress(OSError):
                    stream.close()
        self._errors.close()


def exit_with_stdin() -> "queue.SimpleQueue[str]":
    """From now on, end this process when its stdin closes; the lines that come on it till then."""
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def watch() -> None:
        with suppress(OSError, ValueError):
            while line := sys.stdin.readline():
                lines.put(line)
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()
    return lines


class Commands:
    """Signals as commands to the main thread: SIGTERM and SIGINT end `obey`, others call what they stand for.

    Parameters
    ----------
    calls : mapping of signal.Signals to callable
    watch_stdin : bool
        See `exit_with_stdin`.
    """

    def __init__(self, calls: Mapping[signal.Signals, Callable[[], None]], *, watch_stdin: bool) -> None:
        self._calls = dict(calls)
        # The bytes wake the main thread whichever thread the signal came to.
        self._received, self._wakeup = socket.socketpair()
        self._wakeup.setblocking(False)
        signal.set_wakeup_fd(self._wakeup.fileno())
        for number in (signal.SIGTERM, signal.SIGINT, *calls):
            signal.signal(number, lambda received, frame: None)
        if watch_stdin:
            exit_with_stdin()

    def obey(self) -> None:
        """Carry out commands until the one to end."""
        while (number := signal.Signals(self._received.recv(1)[0])) in self._calls:
            self._calls[number]()
