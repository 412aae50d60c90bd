"""Transfers through the link process beside the exact law, and beside a link that is not shaped."""

import socket
import threading
import time
from contextlib import ExitStack

import numpy as np
from common import machine

from edgeinfer import paper
from edgeinfer.bridge.link.airtime import Airtime
from edgeinfer.bridge.wire.processes import Process

TRANSFERS, LINKS = 8000, 16
BITS = 1.0486e6


def transfers(server: socket.socket, port: int, count: int, size: int, pause: float) -> np.ndarray:
    """Times of single transfers through the process, the link idle before each."""
    near = socket.create_connection(("127.0.0.1", port))
    far, _ = server.accept()
    buffer, payload, times = memoryview(bytearray(size)), bytes(size), []
    with near, far:
        for _ in range(count):
            time.sleep(pause)
            start = time.monotonic()
            sender = threading.Thread(target=far.sendall, args=(payload,))
            sender.start()
            left = size
            while left:
                left -= near.recv_into(buffer, left)
            times.append(time.monotonic() - start)
            sender.join()
    return np.array(times)


def measure(shaped: bool, count: int, size: int, pause: float) -> tuple[np.ndarray, np.ndarray]:
    """Measured times over several links at once, and what the slot arithmetic gives for the same seeds."""
    link = paper.scenario().link
    results: list[np.ndarray] = [np.array([])] * LINKS
    with ExitStack() as stack:

        def run(number: int) -> None:
            server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            port = server.getsockname()[1]
            arguments = ["--listen", "0", "--to", f"127.0.0.1:{port}", "--seed", str(number), "--exit-with-stdin"]
            if not shaped:
                arguments += ["--set", "bandwidth=1e15"]
            process = stack.enter_context(Process(("-m", "edgeinfer.cli", "link", *arguments), "link"))
            results[number] = transfers(server, process.port(), count // LINKS, size, pause)

        threads = [threading.Thread(target=run, args=(number,)) for number in range(LINKS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    twins = []
    for number in range(LINKS):
        airtime = Airtime(link, seed=np.random.SeedSequence(number, spawn_key=(0,)))
        starts = 1e4 * np.arange(count // LINKS)
        twins += [airtime.finish(8 * size, start) - start for start in starts]
    return np.concatenate(results), np.array(twins)


def main() -> None:
    print(machine())
    size = round(BITS / 8)
    law = paper.scenario().link.transfer(8 * size)
    measured, twin = measure(True, TRANSFERS, size, 0.02)
    floor, _ = measure(False, 200, size, 0.02)
    rng = np.random.default_rng(1)
    sampled = np.quantile(law.sample((200, TRANSFERS), rng), 0.99, axis=1)
    low, high = 0.0, 10.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if law.sf(middle) > 0.01 else (low, middle)
    u = np.sort(law.cdf(measured))
    distance = max(np.max(np.arange(1, u.size + 1) / u.size - u), np.max(u - np.arange(u.size) / u.size))
    jitter = measured - twin
    error = np.sqrt(law.var() / TRANSFERS) / law.mean()
    print(
        f"{TRANSFERS} transfers of {8 * size} bit, slots of 10 ms, over {LINKS} links at once; measured against derived"
    )
    print(
        f"mean: {measured.mean() * 1e3:.3f} ms, law {law.mean() * 1e3:.3f} ms: "
        f"{measured.mean() / law.mean() - 1:+.2%} (standard error {error:.2%}); to reach: 2 %"
    )
    print(
        f"99 % quantile: {np.quantile(measured, 0.99) * 1e3:.2f} ms, law {low * 1e3:.2f} ms: "
        f"{np.quantile(measured, 0.99) / low - 1:+.2%} (standard error {sampled.std() / low:.2%}); "
        f"against the arithmetic of the same seeds "
        f"{np.quantile(measured, 0.99) / np.quantile(twin, 0.99) - 1:+.2%}; to reach: 2 %"
    )
    print(
        f"two-sample distance to the law: {distance:.4f}; exceeded by chance with probability 5 %: "
        f"{1.358 / TRANSFERS**0.5:.4f}"
    )
    print(
        "jitter, a transfer less the arithmetic of its own seed, ms: "
        + ", ".join(
            f"{name} {value * 1e3:.3f}"
            for name, value in (
                ("mean", jitter.mean()),
                ("50 %", np.median(jitter)),
                ("99 %", np.quantile(jitter, 0.99)),
                ("largest", jitter.max()),
            )
        )
    )
    print(f"floor, the same process at 1 Pbit/s: {np.median(floor) * 1e3:.3f} ms")


if __name__ == "__main__":
    main()
