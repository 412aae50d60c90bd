"""One bracket at 1e-9, its time and how tight it is beside Lundberg's and the union bound."""

import resource

from common import best, machine

import edgeinfer as ei

NODE = ei.Node("unit", 1.0)
LINK = ei.RayleighLink(10e6, 1.0, 0.0, 0.0, 0.01)


def split(first: float, last: float, bits: float = 1.0486e6) -> ei.Pipeline:
    return ei.Pipeline([ei.Compute(first, NODE, "a"), ei.Transfer(bits, LINK, "b"), ei.Compute(last, NODE, "c")])


def main() -> None:
    print(machine())
    cases = {
        "default scenario, <= 10 ms": (ei.paper.scenario().pipelines()["split"], 0.35),
        "edge": (split(0.651, 0.458), 1.0),
        "device": (split(0.458, 0.651), 1.0),
        "edge and device equal, <= 60 ms": (split(0.651, 0.651), 1.0),
        "link": (split(0.3, 0.458, 5.2429e6), 1.3),
        "link, at 0.8 of its capacity": (split(0.469, 0.499, 5.2429e6), 1.522),
        "link, edge and device equal": (split(0.524, 0.524, 5.2429e6), 0.951),
    }
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name, (pipeline, rate) in cases.items():
        deadline = ei.deadline_at(pipeline, rate, 1e-9, tolerance=1e-3)
        bracket = ei.violation_bracket(pipeline, rate, deadline)
        truth = ei.rare_violation(pipeline, rate, deadline, relative_error=0.002, rng=1)
        error = (truth.high - truth.low) / 2
        assert bracket.lower - 2 * error < truth.value < bracket.upper + 2 * error
        milliseconds = best(lambda p=pipeline, r=rate, t=deadline: ei.violation_bracket(p, r, t), 5) * 1e3
        loose = {m: ei.violation_bound(pipeline, rate, deadline, m) / truth.value for m in ("lundberg", "union")}
        print(
            f"{name}: {milliseconds:.3g} ms, upper / lower {bracket.upper / bracket.lower:.4f} ({bracket.method}); "
            + ", ".join(f"{m} {ratio:.3g} x the truth" for m, ratio in loose.items())
        )
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(f"memory grown by {grown:.0f} MiB in all; to reach: <= 64 MiB")


if __name__ == "__main__":
    main()
