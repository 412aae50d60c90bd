"""Rayleigh rate sampling beside NumPy's best vectorised form and a floor, NumPy's uniforms."""

import numpy as np
from common import best, machine, report

from edgeinfer import RayleighLink, _core

COUNT = 100_000  # what fits the second-level cache, so that no page of the result is new


def main() -> None:
    print(machine())
    link = RayleighLink(10e6, 31, -100, 128.1, 0.01)
    rng = np.random.default_rng(1)
    buffer = np.empty(COUNT)

    def numpy_rates() -> np.ndarray:
        rng.standard_exponential(out=buffer)
        np.multiply(buffer, link.snr, out=buffer)
        np.log1p(buffer, out=buffer)
        return np.multiply(buffer, link.bandwidth / np.log(2), out=buffer)

    entropy = np.random.SeedSequence(1).generate_state(4, np.uint64)

    def core_rates() -> np.ndarray:
        return _core.sample_rate(COUNT, link.bandwidth, link.snr, (1.0, 0.0, 1.0, 1.0), entropy)

    ours = core_rates()
    for sample in (ours, numpy_rates()):
        assert abs(sample.mean() / link.mean_rate() - 1) < 5 * sample.std() / sample.mean() / COUNT**0.5
    scale = 1e9 / COUNT
    report(
        "Rayleigh rates",
        "ns a sample",
        best(core_rates, 50) * scale,
        {
            "NumPy": best(numpy_rates, 50) * scale,
            "floor, NumPy's uniforms": best(lambda: rng.random(out=buffer), 50) * scale,
        },
        ">= 5 x NumPy (AVX2), >= 4 x NumPy (AVX-512)",
    )


if __name__ == "__main__":
    main()
