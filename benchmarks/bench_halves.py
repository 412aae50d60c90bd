"""What a cut network's runtime costs on loopback beside a bare gRPC echo of the same bytes, and runs beside
predictions.
"""

import argparse
from time import sleep

import numpy as np
from bench_bridge import echo
from common import machine, report

from edgeinfer import bridge
from edgeinfer.bridge.run.cut import PAUSE, message_bits
from edgeinfer.estimates import proportions
from edgeinfer.paper.measured import halves


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", default=["digits", "squeezenet", "shufflenet"])
    parser.add_argument("--cuts", type=int, default=4)
    parser.add_argument("--requests", type=int, default=40)
    chosen = parser.parse_args()
    print(machine())
    for name in chosen.networks:
        network = halves.network(name)
        model, shapes = network.model(), network.shapes
        profile = bridge.profile(model, shapes)
        link = halves.assumed_link(profile)
        nodes = {"device": profile.node("device"), "edge": profile.node("edge"), "link": link, "downlink": link}
        options = bridge.chain_cuts(profile, single=True, **nodes)
        errors, rough = [], []
        for number in np.linspace(0, len(options) - 2, chosen.cuts).round().astype(int):
            whole = options[number]
            cut = bridge.profile_cut(model, whole, shapes=shapes)
            run = bridge.measure_cut(model, cut, requests=chosen.requests, shapes=shapes)
            found = proportions.mean(run.times["sojourn"])
            predicted = sum(float(stage.mean()) for stage in run.pipeline)
            errors.append(abs(predicted / found.value - 1))
            rough.append(abs(whole.latency / found.value - 1))
            print(
                f"{name}, {cut.places.count(0)} of {len(cut.places)} operations on the device: "
                f"{found.value * 1e3:.1f} ms [{found.low * 1e3:.1f}, {found.high * 1e3:.1f}] measured, "
                f"{predicted * 1e3:.1f} ms predicted, {whole.latency * 1e3:.1f} by the whole network's profile"
            )
            direct = bridge.measure_cut(model, cut, requests=chosen.requests, shapes=shapes, shaped=False)
            bits = message_bits(cut.graph, cut.division)
            floor = echo([(bits[0] // 8, bits[1] // 8)], lambda: sleep(PAUSE))
            report(
                f"{name}, outside ONNX Runtime on loopback, {bits[0] / 8e3:.0f} kB up, median",
                "ms",
                float(np.median(direct.times["overhead"])) * 1e3,
                {"floor, bare gRPC echo": float(np.median(floor)) * 1e3},
                "<= 1.5 ms",
            )
        print(
            f"{name}: median error {np.median(errors):.1%}, to reach: <= 10 %; by the whole network's profile "
            f"{np.median(rough):.1%}"
        )


if __name__ == "__main__":
    main()
