"""The union bound beside SciPy's bounded Brent and a pattern search over theta."""

import numpy as np
from common import best, machine, report
from scipy.optimize import brentq, minimize_scalar

import edgeinfer as ei

NODE = ei.Node("unit", 1.0)
LINK = ei.RayleighLink(10e6, 1.0, 0.0, 0.0, 0.01)
PIPELINE = ei.Pipeline([ei.Compute(0.651, NODE, "a"), ei.Transfer(1.0486e6, LINK, "b"), ei.Compute(0.458, NODE, "c")])
COUNT = 100_000


def main() -> None:
    print(machine())
    rates = np.linspace(0.2, 1.2, 100)[:, None]
    deadlines = np.linspace(2, 30, COUNT // 100)
    law = PIPELINE.stages[1].law().laws[0]

    def objective(theta: float, rate: float, deadline: float) -> float:
        value = -theta * deadline
        for moment in (0.651 * theta, float(law.log_mgf(np.float64(theta))[0]), 0.458 * theta):
            kappa = moment - np.log1p(theta / rate)
            if kappa >= 0:
                return 1e9
            value += moment - np.log(-np.expm1(kappa))
        return value

    def brent(rate: float, deadline: float) -> float:
        root = brentq(lambda theta: 0.651 * theta - np.log1p(theta / rate), 1e-3, 60)
        return minimize_scalar(objective, bounds=(1e-9, root), args=(rate, deadline), method="bounded").fun

    def pattern(rate: float, deadline: float) -> float:
        theta, step, value = 0.3, 0.3, objective(0.3, rate, deadline)
        while step > 1e-4:
            for trial in (theta + step, theta - step):
                if trial > 0 and (found := objective(trial, rate, deadline)) < value:
                    theta, value = trial, found
                    break
            else:
                step /= 2
        return value

    ours = ei.violation_bound(PIPELINE, rates, deadlines, "union", log=True)
    for i, j in ((10, 500), (50, 900), (80, 999)):
        assert abs(ours[i, j] - min(brent(rates[i, 0], deadlines[j]), 0)) < 1e-3 * abs(ours[i, j]) + 1e-6
    report(
        "union bound",
        "us an element",
        best(lambda: ei.violation_bound(PIPELINE, rates, deadlines, "union"), 3) / COUNT * 1e6,
        {
            "Brent": best(lambda: brent(0.7, 12.0), 20) * 1e6,
            "pattern search": best(lambda: pattern(0.7, 12.0), 20) * 1e6,
        },
        "<= 5 us",
    )


if __name__ == "__main__":
    main()
