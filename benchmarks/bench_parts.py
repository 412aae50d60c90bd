"""Time of the two parts of cuts, predicted from the profile and measured, unloaded and without a link, interleaved."""

import sys
import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from bridge import networks

from edgeinfer import RayleighLink
from edgeinfer.bridge import Parts, chain_cuts, profile, write_parts
from edgeinfer.network.feeds import random_feeds

LINK = RayleighLink(1e7, 31, -100, 128.1, 1e-3)
RUNS = 15


def main():
    for name in ("squeezenet", "shufflenet"):
        model = networks.light(name)
        measured = profile(model, repetitions=RUNS)
        nodes = {"device": measured.node("device"), "edge": measured.node("edge"), "link": LINK}
        options = [cut for cut in chain_cuts(measured, single=True, **nodes) if 0 < sum(cut.places) < len(cut.places)]
        errors = []
        for cut in options[:: max(1, len(options) // 6)]:
            with tempfile.TemporaryDirectory() as folder:
                write_parts(model, cut, folder)
                parts, feeds = Parts(folder), random_feeds(measured.graph)
                times = []
                for _ in range(RUNS):
                    start = perf_counter()
                    carried = parts.step(0, feeds)
                    middle = perf_counter()
                    parts.step(1, carried)
                    times.append((middle - start, perf_counter() - middle))
            first, second = np.median(times, axis=0)
            total = sum(cut.times)
            errors.append(abs(total / (first + second) - 1))
            print(
                f"{name}: {cut.places.count(0)} of {len(cut.places)} operations on the device: "
                f"{first * 1e3:.1f} + {second * 1e3:.1f} ms measured (medians), "
                f"{cut.times[0] * 1e3:.1f} + {cut.times[1] * 1e3:.1f} ms predicted"
            )
        print(f"{name}: median error of the sum {100 * np.median(errors):.1f} %")


if __name__ == "__main__":
    main()
