"""Early exits on the wall clock: a real run with Poisson arrivals beside what the core predicts from measured times."""

import numpy as np
from common import machine

import edgeinfer as ei
from edgeinfer import bridge
from edgeinfer.bridge.exit import digits

REQUESTS, RUNS, LOADS = 3000, 6, (0.3, 0.6, 0.8)


def main() -> None:
    print(machine())
    network = bridge.load_exits()
    test = digits.load_data("test")
    rule = bridge.calibrate(network.evaluate(*digits.load_data("validation")), accuracy_loss=0.01)
    never = bridge.ExitRule([np.inf] * len(rule.thresholds))
    times, full = network.exit_times(test.images)
    print(f"median time to leave at each exit {np.round(times * 1e6, 1)} us, without early exits {full * 1e6:.1f} us")
    for name, chosen in (("with exits", rule), ("without", never)):
        samples = network.service_times(test.images, chosen).ravel()
        pipeline = ei.Pipeline([ei.Measured(samples, "inference")])
        mean = pipeline[0].mean()
        print(f"{name}: mean service time {mean * 1e6:.1f} us, median {np.median(samples) * 1e6:.1f} us")
        for load in LOADS:
            rate = load / mean
            deadline = 3 * mean
            runs = []
            for seed in range(RUNS):
                arrivals = bridge.poisson(rate, REQUESTS, seed)
                runs.append(bridge.serve_exits(network, *test, chosen, arrivals, seed))
            sojourns = [run.sojourn.mean() for run in runs]
            shares = [run.violation(deadline) for run in runs]
            bracket = ei.violation_bracket(pipeline, rate, deadline)
            print(
                f"  load {load:.1f}: mean sojourn {np.mean(sojourns) * 1e6:.0f} us measured "
                f"[{min(sojourns) * 1e6:.0f} .. {max(sojourns) * 1e6:.0f}], "
                f"{ei.mean_sojourn(pipeline, rate) * 1e6:.0f} us predicted; P(> {deadline * 1e6:.0f} us) "
                f"{np.mean(shares):.4f} measured [{min(shares):.4f} .. {max(shares):.4f}], "
                f"{bracket.lower:.4f} .. {bracket.upper:.4f} predicted; backlog "
                f"{np.mean([r.mean_backlog for r in runs]):.2f}"
            )


if __name__ == "__main__":
    main()
