"""What the benchmarks share: the best of several timings, the machine, and the table."""

import os
import platform
import time
from collections.abc import Callable
from typing import Any


def best(call: Callable[[], Any], repeat: int = 5) -> float:
    """Least wall-clock time of `repeat` calls, s; the first call warms up and is not timed."""
    call()
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def machine() -> str:
    """Processor, cores and compiler flags that matter."""
    model = platform.processor() or "unknown processor"
    try:
        with open("/proc/cpuinfo") as info:
            lines = info.read().splitlines()
        model = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
        flags = next(line for line in lines if line.startswith("flags"))
        model += ", AVX-512" if "avx512f" in flags else ", AVX2" if "avx2" in flags else ""
    except (OSError, StopIteration):
        pass
    return f"{model}, {len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}"


def report(title: str, unit: str, ours: float, others: dict[str, float], target: str) -> None:
    """One line: our figure, and how many times that each rival or floor takes."""
    ratios = ", ".join(f"{name} {value:.4g} ({value / ours:.3g} x)" for name, value in others.items())
    print(f"{title}: ours {ours:.4g} {unit}; {ratios or 'no rival'}; to reach: {target}")
