"""What the halves of cut networks take as processes, beside what their profiled pipelines say: `edgeinfer measure`."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeinfer import _validate, bridge
from edgeinfer._extras import need
from edgeinfer._files import replacing
from edgeinfer.bridge.exit import digits
from edgeinfer.bridge.run.cut import TIMES
from edgeinfer.delay import simulate, violation_bracket
from edgeinfer.estimates import cycles, shares
from edgeinfer.model import Constant, Measured, Pipeline, RayleighLink
from edgeinfer.network.zoo import LIGHT_NETWORKS
from edgeinfer.paper.measured.store import FOLDER, write

#: Networks that are measured where none are chosen.
NETWORKS = ("digits", "squeezenet", "shufflenet", "inception_v1", "resnet50")
#: Assumed: how many times slower than this machine the device is, the mean SNR as in a good cell, and the slot.
SLOWDOWN, MEAN_SNR, SLOT = 4.0, 100.0, 5e-3
#: Violation probabilities, simulated, at whose deadlines the load tests are compared.
PROBABILITIES = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01)
#: Load of the busiest stage, and the share of requests at the start that do not count, while the queue fills.
LOAD, START_UP = 0.6, 0.05
#: Cuts of each network, requests without load for each, and under load for one.
CUTS, REQUESTS, ARRIVALS = 5, 40, 600
# Least time that the link takes for the input, s: what the runtime costs should be little beside it.
_TRANSFER = 0.02


@dataclass(frozen=True, eq=False)
class MeasuredNetwork:
    """A network to measure.

    Parameters
    ----------
    model : callable
        Gives the onnx.ModelProto.
    shapes : mapping of str to tuple of int
        Of inputs that it leaves free.
    """

    model: Callable[[], Any]
    shapes: Mapping[str, tuple[int, ...]]


def network(name: str) -> MeasuredNetwork:
    """The classifier of digits, or one of the light models."""
    if name == "digits":
        return MeasuredNetwork(digits.network, {"x": (1, 1, 8, 8)})
    return MeasuredNetwork(lambda: bridge.light_model(name), {})


def measure(
    out: str | Path = FOLDER,
    *,
    networks: Sequence[str] = NETWORKS,
    cuts: int = CUTS,
    requests: int = REQUESTS,
    arrivals: int = ARRIVALS,
    repetitions: int = 30,
    threads: int = 1,
    seed: int = 0,
    store: str | Path | None = None,
    progress: bool = True,
) -> Path:
    """Measure cuts of networks as processes, and write `halves.nc`.

    Each network is profiled; its device is `SLOWDOWN` times slower than this machine, and its link carries the input in
    as much time as the device would take for the whole. Cuts between its layers, from none to nearly all on the device,
    run request by request; the quickest of those in the middle also runs without a link, and under Poisson arrivals,
    its answers then coming back at once. What is predicted comes from the profile, with the times of the two parts
    measured as they run (`bridge.profile_cut`), before each run.

    Parameters
    ----------
    out : path
        Folder of the file.
    networks : sequence of str
        "digits" or names of light models.
    cuts, requests, arrivals : int
        Cuts of each network (>= 3), requests for each of them, and under load (>= 40).
    repetitions : int
        Of each profile.
    threads : int
        Of ONNX Runtime, on both halves.
    seed : int
    store : path, optional
        Folder of what is done, network by network, from which the same call takes up; `out`/.measure/halves by default.
    progress : bool
        A bar, on a terminal only.

    Returns
    -------
    Path
    """
    tqdm = need("tqdm", "paper").tqdm
    settings = {
        "cuts": _validate.whole("cuts", cuts, 3),
        "requests": _validate.whole("requests", requests, 2),
        "arrivals": _validate.whole("arrivals", arrivals, 40),
        "repetitions": _validate.whole("repetitions", repetitions, 2),
        "threads": _validate.threads(threads),
        "seed": _validate.whole("seed", seed, 0),
    }
    for name in networks:
        _validate.choice("networks", name, ("digits", *LIGHT_NETWORKS))
    if not networks:
        raise ValueError("networks = (): must be at least one")
    folder = Path(out) / ".measure" / "halves" if store is None else Path(store)
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for name in tqdm(networks, disable=None if progress else True, desc="halves"):
        path = folder / f"{name}.json"
        found[name] = _stored(path, settings)
        if found[name] is None:
            found[name] = _measured(network(name), settings)
            with replacing(path) as temporary:
                temporary.write_text(json.dumps({"settings": settings, "measured": found[name]}))
    return write(_dataset(found, settings), Path(out) / "halves.nc")


def _stored(path: Path, settings: Mapping[str, Any]) -> Any:
    try:
        record = json.loads(path.read_text())
        return record["measured"] if record["settings"] == settings else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _measured(chosen: MeasuredNetwork, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Everything about one network, as JSON takes it; what is not a number is None."""
    model = chosen.model()
    timing = {"shapes": chosen.shapes, "repetitions": settings["repetitions"], "threads": settings["threads"]}
    running = {"shapes": chosen.shapes, "threads": settings["threads"], "seed": settings["seed"]}
    profile = bridge.profile(model, **timing)
    link = assumed_link(profile)
    nodes = {"device": profile.node("device", SLOWDOWN), "edge": profile.node("edge")}
    options = bridge.chain_cuts(profile, **nodes, link=link, downlink=link, single=True)
    # All but the one that has everything on the device: of that there is nothing to predict but its own time.
    picked = np.unique(np.linspace(0, len(options) - 2, settings["cuts"]).round().astype(int))
    rows = []
    for number in picked:
        cut = bridge.profile_cut(model, options[number], **timing)
        run = bridge.measure_cut(model, cut, requests=settings["requests"], **running)
        rows.append(_without_load(cut, run, float(options[number].latency)))
    _, middle = min((row["predicted"], number) for row, number in list(zip(rows, picked, strict=True))[1:-1])
    cut = bridge.profile_cut(model, replace(options[middle], downlinks=()), **timing)
    pipeline = bridge.message_pipeline(cut)
    direct = bridge.measure_cut(model, cut, requests=settings["requests"], shaped=False, **running)
    rate = LOAD / max(float(stage.mean()) for stage in pipeline)
    run = bridge.measure_cut(model, cut, requests=settings["arrivals"], arrival_rate=rate, **running)
    return {
        "mean_rate": float(link.mean_rate()),
        "operations": len(profile.graph.operations),
        "cuts": rows,
        "loopback": _numbers(direct.times["overhead"]),
        "load": {"device_operations": cut.places.count(0), "arrival_rate": rate}
        | _under_load(pipeline, rate, run, settings["seed"]),
        "provenance": {
            name: value for name, value in profile.provenance.items() if isinstance(value, str | int | float)
        },
    }


def _without_load(cut: Any, run: Any, whole: float) -> dict[str, Any]:
    """A cut whose requests came one after another, and what the profiles of its parts and of the whole network say."""
    stages = {stage.name: float(stage.mean()) for stage in run.pipeline}
    return {
        "device_operations": cut.places.count(0),
        "crossing_bits": cut.bits[0],
        "whole_profile": whole,
        "predicted": sum(stages.values()),
        "stages": stages,
        "times": {name: _numbers(run.times[name]) for name in TIMES},
        "failures": len(run.failures),
    }


def _under_load(pipeline: Pipeline, rate: float, run: Any, seed: int) -> dict[str, Any]:
    """Late requests at deadlines that the pipeline, simulated, exceeds with `PROBABILITIES`: predicted and measured."""
    kept = slice(math.ceil(START_UP * len(run.arrivals)), None)
    effort: dict[str, Any] = {"jobs": 20_000, "replications": 16, "rng": seed}
    forward = simulate(pipeline, rate, 0.0, **effort)
    deadlines = [float(np.ravel(forward.quantile(1 - probability))[-1]) for probability in PROBABILITIES]
    forward = simulate(pipeline, rate, deadlines, **effort)
    bracket, sharp = (violation_bracket(each, rate, deadlines) for each in (pipeline, constant(pipeline)))
    cycle = cycles(run.arrivals[kept], run.times["sojourn"][kept])
    late = [shares(run.late(deadline)[kept], cycle) for deadline in deadlines]
    return {
        "deadline": deadlines,
        "lower": _numbers(bracket.lower),
        "upper": _numbers(bracket.upper),
        "lower_constant": _numbers(sharp.lower),
        "upper_constant": _numbers(sharp.upper),
        "simulated": _numbers(forward.violation.value[..., -1]),
        "violation": [float(share.value) for share in late],
        "violation_low": [float(share.low) for share in late],
        "violation_high": [float(share.high) for share in late],
        "sojourn": _numbers(run.times["sojourn"]),
        "failures": len(run.failures),
    }


def constant(pipeline: Pipeline) -> Pipeline:
    """The pipeline with each measured stage always taking its mean: for these the certified bracket is narrow.

    Examples
    --------
    >>> from edgeinfer import Measured
    >>> constant(Pipeline([Measured([0.1, 0.3], "device")]))[0].mean()
    0.2
    """
    return Pipeline(Constant(stage.mean(), stage.name) if isinstance(stage, Measured) else stage for stage in pipeline)


def assumed_link(profile: Any) -> RayleighLink:
    """A link that carries the input in the time that the device would take for the whole network."""
    bits = sum(profile.graph.tensors[name].bits for name in profile.graph.inputs)
    rate = bits / max(SLOWDOWN * float(profile.totals.mean()), _TRANSFER)
    return RayleighLink.from_snr(MEAN_SNR, 1.0, SLOT).at_rate(rate)


def _numbers(values: Any) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]


def _dataset(found: Mapping[str, Any], settings: Mapping[str, Any]) -> Any:
    names = list(found)
    variables = _cut_variables(list(found.values()), settings["requests"])
    variables |= _load_variables([record["load"] for record in found.values()])
    variables |= {
        "operations": ("network", [found[name]["operations"] for name in names], _derived("1")),
        "loopback_overhead": (
            ("network", "request"),
            np.array([np.array(found[name]["loopback"], float) for name in names]),
            _measured_in("s") | {"long_name": "outside ONNX Runtime, without a link, the cut of the load test"},
        ),
        "mean_rate": (
            "network",
            [found[name]["mean_rate"] for name in names],
            {"units": "bit/s", "provenance": "assumed"},
        ),
    }
    return need("xarray", "paper").Dataset(
        variables,
        coords={"network": names, "probability": ("probability", list(PROBABILITIES), {"units": "1"})},
        attrs={"slowdown": SLOWDOWN, "slot": SLOT, "load": LOAD, "start_up": START_UP}
        | {name: value for name, value in settings.items() if name != "cuts"}
        | {f"machine_{key}": value for key, value in found[names[0]]["provenance"].items()},
    )


def _derived(units: str) -> dict[str, str]:
    return {"units": units, "provenance": "derived"}


def _measured_in(units: str) -> dict[str, str]:
    return {"units": units, "provenance": "measured"}


def _cut_variables(records: Sequence[Mapping[str, Any]], requests: int) -> dict[str, Any]:
    """What each cut took, and was predicted to take, without load."""
    most = max(len(record["cuts"]) for record in records)

    def table(*keys: str, over: tuple[int, ...] = ()) -> Any:
        """What each cut has under the keys, over (network, cut[, request]); NaN where a network has fewer cuts."""
        values = np.full((len(records), most, *over), np.nan)
        for row, record in enumerate(records):
            for column, value in enumerate(record["cuts"]):
                for key in keys:
                    # A stage that a cut does not have takes no time.
                    value = value.get(key, 0.0)
                values[row, column] = np.array(value, float)
        return values

    cuts = ("network", "cut")
    by_whole = "mean latency by the shares of the whole network's profile, tensors' bits"
    by_parts = "mean latency of the pipeline, parts measured as they run"
    variables: dict[str, Any] = {
        name: ((*cuts, "request"), table("times", name, over=(requests,)), _measured_in("s")) for name in TIMES
    }
    variables |= {
        "device_operations": (cuts, table("device_operations"), _derived("1")),
        "crossing_bits": (cuts, table("crossing_bits"), _derived("bit")),
        "failures": (cuts, table("failures"), _measured_in("1")),
        "predicted": (cuts, table("predicted"), _derived("s") | {"long_name": by_parts}),
        "predicted_by_whole": (cuts, table("whole_profile"), _derived("s") | {"long_name": by_whole}),
    }
    for stage in ("device", "uplink", "edge", "downlink"):
        variables[f"predicted_{stage}"] = (cuts, table("stages", stage), _derived("s"))
    return variables


def _load_variables(loads: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What one cut of each network took under load, beside what the core predicts."""

    def each(key: str) -> Any:
        return np.array([np.array(load[key], float) for load in loads])

    variables: dict[str, Any] = {
        "arrival_rate": ("network", each("arrival_rate"), {"units": "1/s", "provenance": "assumed"}),
        "load_device_operations": ("network", each("device_operations"), _derived("1")),
        "load_failures": ("network", each("failures"), _measured_in("1")),
        "load_sojourn": (("network", "arrival"), each("sojourn"), _measured_in("s")),
        "deadline": (("network", "probability"), each("deadline"), _derived("s")),
    }
    kinds = dict.fromkeys(("lower", "upper", "lower_constant", "upper_constant"), "derived")
    kinds |= {"simulated": "simulated"} | dict.fromkeys(("violation", "violation_low", "violation_high"), "measured")
    for name, kind in kinds.items():
        variables[name] = (("network", "probability"), each(name), {"units": "1", "provenance": kind})
    return variables
