"""Accuracy over the bits that cross the cut, and the violation probability that follows from them."""

from typing import Any

import numpy as np

from edgeinfer._extras import need
from edgeinfer.bridge import RatePoint, load_exits, offload, rate_accuracy, standard_codecs
from edgeinfer.bridge.exit import digits as digits_data
from edgeinfer.delay import violation_bracket
from edgeinfer.model import Compute, Node, Pipeline, RayleighLink, Transfer
from edgeinfer.paper.drawing import style
from edgeinfer.paper.scenario import Scenario

TITLE = "Accuracy over bits at the cut"
HERE = (
    "Discriminative inference split behind the first segment of a small classifier of digits (8 x 8 pixels, real, "
    "few): bits of real messages and accuracy on held-out images, beside the input sent whole, raw and as JPEG "
    "(of so small an image a JPEG file is mostly headers: its scan alone and the raw pixels are the baselines "
    "that count). The same bits over a narrow link give the violation probability. Speeds, bandwidth, arrival "
    "rate and deadline are assumed."
)
#: Assumed: a microcontroller, a small server, a narrow band.
DEVICE, EDGE, BANDWIDTH = Node("device", 20e6), Node("edge", 1e9), 2e3
ARRIVAL_RATE, DEADLINE = 3.0, 0.3
FAMILIES = ("plain", "energy", "attention", "mutual_information", "pca", "autoencoder", "pixels", "jpeg", "jpeg scan")


def data(
    scenario: Scenario,
    *,
    bits: tuple[int, ...] = (1, 2, 4),
    qualities: tuple[int, ...] = (5, 10, 25, 50, 75, 95),
) -> Any:
    """Bits, accuracy and violation probability of each codec and of sending the input itself.

    Parameters
    ----------
    scenario : Scenario
        Its link but for the bandwidth.
    bits, qualities : tuple of int
        The bits of a value behind Lloyd-Max's quantiser, zstd where it is shorter; the quality of JPEG.

    Returns
    -------
    xarray.Dataset
        Dimension point; `family` is one of `FAMILIES`.
    """
    network, test = load_exits(), digits_data.load_data("test")
    codecs = standard_codecs(network, *digits_data.load_data("train"), bits=bits)
    codecs = {name: codec for name, codec in codecs.items() if "lloyd_max" in name and codec.entropy}
    manifest, link = network.manifest, scenario.link
    narrow = RayleighLink(BANDWIDTH, link.tx_power_dbm, link.noise_dbm, link.path_loss_db, link.slot)
    head = manifest.segments[0].flops

    def split(before: float, point: RatePoint, behind: float) -> Pipeline:
        return Pipeline(
            [
                Compute(before, DEVICE, "device"),
                Transfer(point.largest_bits, narrow, "uplink"),
                Compute(behind, EDGE, "edge"),
            ]
        )

    points = rate_accuracy(network, codecs, *test)
    pipelines = []
    for codec, point in zip(codecs.values(), points, strict=True):
        encoding, decoding = codec.flops
        pipelines.append(split(head + encoding, point, manifest.full_cost - head + decoding))
    whole = offload(network, *test, levels=digits_data.LEVELS, qualities=qualities)
    pipelines += [split(0, point, manifest.full_cost) for point in whole]
    brackets = [violation_bracket(pipeline, ARRIVAL_RATE, DEADLINE) for pipeline in pipelines]
    rows = [point.row() for point in points + whole]
    values: dict[str, Any] = {"units": "1", "provenance": "measured"}
    variables: dict[str, Any] = {
        name: ("point", [row[name] for row in rows], values | ({"units": "bit"} if "bits" in name else {}))
        for name in rows[0]
        if name != "name"
    }
    for end in ("lower", "upper"):
        bound = [float(getattr(bracket, end)) for bracket in brackets]
        variables[f"violation_{end}"] = ("point", bound, {"units": "1", "provenance": "derived"})
    family = [next(f for f in reversed(FAMILIES) if row["name"].startswith(f)) for row in rows]
    return need("xarray", "study").Dataset(
        variables,
        coords={"point": [row["name"] for row in rows], "family": ("point", family)},
        attrs={"float32_bits": 32 * int(np.prod(next(iter(codecs.values())).shape))},
    )


@style.drawing
def draw(table: Any) -> Any:
    """Accuracy over bits with its intervals, and violation probability over accuracy: the best points of each
    family.
    """
    figure, (left, right) = style.subplots(1, 2, size=(10.6, 4.4))
    markers = dict(zip(FAMILIES, "osv^dPx+*", strict=True))
    for family, marker in markers.items():
        rows = table.where(table["family"] == family, drop=True).sortby("bits")
        accuracy = rows["accuracy"].values
        # Only points that no other of the family beats in both bits and accuracy.
        best = rows.isel(point=np.flatnonzero(accuracy > np.maximum.accumulate(np.r_[-1.0, accuracy[:-1]])))
        ends = [best["accuracy"] - best["accuracy_low"], best["accuracy_high"] - best["accuracy"]]
        label = family.replace("_", " ")
        left.errorbar(best["bits"], best["accuracy"], ends, marker=marker, markersize=4, linewidth=1, label=label)
        right.plot(best["accuracy"], best["violation_upper"], marker=marker, markersize=4, linewidth=1, label=label)
    left.axvline(table.attrs["float32_bits"], color="0.5", linestyle=":", label="float32 tensor")
    left.set_xscale("log")
    left.set_xlabel("bits a request (measured)")
    left.set_ylabel("accuracy on held-out images (measured)")
    left.legend(fontsize=8)
    right.set_yscale("log")
    right.set_xlim(0.85, 1)
    right.set_ylim(1e-10, 2)
    right.set_xlabel("accuracy")
    right.set_ylabel(f"{style.PROBABILITY} at {DEADLINE:g} s, upper end")
    for axes in (left, right):
        axes.grid(True, which="major", color="0.88", linewidth=0.6)
    return figure
