"""Figure 5: the proposed system, drawn from the manifest of the cascade."""

from pathlib import Path
from typing import Any

import numpy as np

from edgeinfer import bridge
from edgeinfer._extras import need
from edgeinfer.paper.drawing import style

TITLE = "Figure 5: the proposed system"
PAPER = (
    "The paper's system: an encoder and the prior diffusion stages on the edge, their latent over the downlink, "
    "and the decoding stage on the device under the guidance of text and latent."
)
HERE = "Drawn from the manifest of the cascade that is shipped here."


def data(*, folder: str | Path | None = None) -> Any:
    """Blocks of the system in the order of the data.

    Parameters
    ----------
    folder : path, optional
        The folder of a cascade; the shipped one by default.

    Returns
    -------
    xarray.Dataset
        Over block: `name`, `place` (edge, link or device), `detail`, `flop` (one pass, NaN where the manifest does
        not say).
    """
    xarray = need("xarray", "paper")
    cascade = bridge.load(folder)
    manifest = cascade.manifest
    costs = cascade.costs()
    text = manifest.text.part.name
    width = " x ".join(
        "?" if size is None else str(size) for size in manifest.text.part.outputs[manifest.text.output].shape[1:]
    )
    rows: list[tuple[str, str, str, float]] = [(text, "edge", f"caption to c, {width}", costs.encoder)]
    for stage, step in ((manifest.prior, costs.prior_step), (manifest.decode, costs.decode_step)):
        if stage is manifest.decode:
            rows.append((text, "device", f"caption to c, {width}", costs.feature))
        passes = stage.passes()
        for network in stage.networks:
            shape = " x ".join(map(str, network.shape))
            detail = f"{shape}, {'denoises in steps' if network.iterative else 'one pass'}"
            if passes > 1:
                detail += f",\nguidance {stage.guidance:g}: {passes} passes a step"
            alone = len(stage.networks) == 1
            rows.append((network.part.name, stage.place, detail, step / passes if alone else float("nan")))
        if stage is manifest.prior:
            wire = manifest.wire
            shape = " x ".join(map(str, wire.shape))
            rows.append(
                (wire.name, "link", f"{shape}, {wire.dtype},\n{wire.bits[wire.dtype] / 1e3:g} kbit", float("nan"))
            )
    shape = " x ".join(map(str, manifest.image.shape))
    rows.append(("image", "device", f"{shape}, {manifest.image.bits / 1e3:g} kbit", float("nan")))
    names = ("name", "place", "detail")
    columns: dict[str, Any] = {
        n: ("block", [row[i] for row in rows], {"provenance": "given by the manifest"}) for i, n in enumerate(names)
    }
    columns["flop"] = ("block", [row[3] for row in rows], {"units": "FLOP", "provenance": "derived"})
    return xarray.Dataset(
        columns,
        attrs={
            "cascade": manifest.name,
            "prior_step_flop": float(costs.prior_step),
            "decode_step_flop": float(costs.decode_step),
        },
    )


@style.drawing
def draw(table: Any) -> Any:
    """Edge above, device below; data runs from left to right in each, and down the link between them."""
    from matplotlib.patches import FancyBboxPatch

    blocks = [{name: table[name].values[i] for name in table.data_vars} for i in range(table.sizes["block"])]
    lanes = {place: [b for b in blocks if b["place"] == place] for place in ("edge", "link", "device")}
    # What decodes stands below what leaves the edge, so that the link runs straight down.
    target = len(lanes["edge"]) - 1
    shift = target - 1
    columns = max(target + 1, shift + len(lanes["device"]))
    figure, axes = style.subplots(size=(2.2 * columns + 1.0, 5.0))
    boxes: dict[str, list[Any]] = {"edge": [], "device": []}
    for place, y, begin, tone in (("edge", 2.0, 0, "#e8eef6"), ("device", 0.0, shift, "#fbeee2")):
        lane = lanes[place]
        box = FancyBboxPatch((begin - 0.85, y - 0.5), len(lane) + 0.35, 1.0, "round,pad=0.02", fc=tone, ec="0.6")
        axes.add_patch(box)
        axes.text(begin - 0.85, y + 0.56, place, fontsize=10, weight="bold", va="bottom")
        axes.text(begin - 0.83, y + 0.06, "caption", fontsize=8, va="bottom")
        for i, block in enumerate(lane):
            x = begin + i
            label = f"{block['name']}\n{block['detail']}"
            if np.isfinite(block["flop"]):
                label += f"\n{block['flop'] / 1e6:.3g} MFLOP a pass"
            frame = {"boxstyle": "round,pad=0.4", "fc": "white", "ec": "0.4"}
            shown = axes.text(x, y, label, ha="center", va="center", fontsize=7.5, bbox=frame)
            boxes[place].append(shown.get_bbox_patch())
            # From box to box, however wide their texts are.
            ends = {"patchA": boxes[place][i - 1] if i else None, "patchB": boxes[place][i]}
            axes.annotate("", (x, y), (x - (1 if i else 0.84), y), arrowprops={"arrowstyle": "->", "lw": 1.2} | ends)
    for block in lanes["link"]:
        arrow = {"arrowstyle": "->", "lw": 1.6, "ls": "--", "color": style.ORANGE}
        ends = {"patchA": boxes["edge"][-1], "patchB": boxes["device"][target - shift]}
        axes.annotate("", (target, 0), (target, 2), arrowprops=arrow | ends)
        label = f"downlink: {block['name']}\n{block['detail']}"
        axes.text(target + 0.05, 1.0, label, fontsize=8, color=style.ORANGE, va="center")
    axes.text(
        -0.85,
        -0.85,
        f"one prior step: {table.attrs['prior_step_flop'] / 1e6:.4g} MFLOP; one decoding step, "
        f"guidance's passes counted: {table.attrs['decode_step_flop'] / 1e6:.4g} MFLOP",
        fontsize=8,
    )
    axes.set_xlim(-0.95, columns - 0.3)
    axes.set_ylim(-1.0, 2.9)
    axes.axis("off")
    return figure
