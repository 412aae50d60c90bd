"""Table 1: the quality metrics, their definitions, and their values for several numbers of steps."""

from typing import Any

import numpy as np

from edgeinfer._extras import need
from edgeinfer.paper.measured import store

TITLE = "Table 1: quality metrics"
PAPER = "The paper defines FID, KID, CLIP and LPIPS and gives no values."
HERE = (
    "The values here are of the small cascade in its toy world: FID and KID on features of its own network with "
    "the bias of that many samples (and, of the decode stage, on the Haar detail of the finest scale, which that "
    "network does not see: root mean squares follow edges, called detail, and in mean absolutes faint texture of "
    "flat areas counts too), LPIPS unlearned (weights 1) on that network's feature maps with eps within the root, "
    "the CLIP score by its own embedder, clipped at 0 after averaging. None compares with values that other "
    "networks give."
)
EQUATIONS = (
    r"\mathrm{FID} = \|\mu_r - \mu_g\|^2"
    r" + \operatorname{tr}\left(\Sigma_r + \Sigma_g - 2 (\Sigma_r \Sigma_g)^{1/2}\right)",
    r"\mathrm{KID} = \mathrm{MMD}^2(F_r, F_g), \quad k(x, y) = \left(\tfrac{x^\top y}{d} + 1\right)^3",
    r"\mathrm{CLIP} = \max(100 \cos(f_I, f_T), 0)",
    r"\mathrm{LPIPS} = \sum_l \frac{1}{H_l W_l} \sum_{h, w}"
    r" \left\| w_l \odot (\phi_l(x)_{hw} - \phi_l(x')_{hw}) \right\|^2",
)
DEFINITIONS = {
    "fid": (
        "FID",
        "|mu_r - mu_g|^2 + tr(S_r + S_g - 2 (S_r S_g)^(1/2))",
        "distance of feature distributions, lower is better",
    ),
    "kid": (
        "KID",
        "MMD^2(F_r, F_g), kernel (x.y / d + 1)^3, unbiased",
        "distance of feature distributions, lower is better",
    ),
    "clip": ("CLIP", "max(100 cos(f_I, f_T), 0)", "agreement of image and text, higher is better"),
    "lpips": (
        "LPIPS",
        "sum_l 1/(H_l W_l) sum_hw |w_l (phi_l(x)_hw - phi_l(x')_hw)|^2",
        "distance to a real image of the caption, lower is better",
    ),
}
#: Numbers of steps that are shown, those of them that were measured: (prior, decoding).
ALLOCATIONS = ((1, 1), (1, 8), (2, 8), (4, 4), (8, 4), (16, 1), (16, 8), (32, 16))
#: Further rows: how many images have all attributes right, and how close they are to a real one by pixels.
FURTHER = {"attributes": ("all attributes right", "share"), "psnr": ("PSNR", "dB")}
#: Distances by the detail at the scale of two pixels, of the decode stage alone: its root mean square, which follows
#: edges, and its mean absolute, in which faint texture of flat areas counts as well.
DETAIL = {
    "fid_detail": "FID, detail",
    "kid_detail": "KID, detail",
    "fid_texture": "FID, texture",
    "kid_texture": "KID, texture",
}
#: Where more is better.
_HIGHER = ("clip", "attributes", "psnr")
#: What each image has a score of, so that images can be compared one by one.
GAINED = ("psnr", "lpips", "clip", "attributes")


def data(*, surface: Any = None, stage: Any = None) -> Any:
    """Values with intervals for several allocations, and of the decode stage beside upsampling.

    Parameters
    ----------
    surface, stage : xarray.Dataset, optional
        What `measurement.measure` writes; the shipped ones by default.

    Returns
    -------
    xarray.Dataset
        `value`, `low`, `high` over (allocation, metric) at the best guidance; `stage_value`, `stage_low`, `stage_high`
        over (enlargement, stage_metric), and `gain_value`, `gain_low`, `gain_high` over (rival, gained): the decode
        stage less the rival, image by image; `definition` and `meaning` over metric.
    """
    xarray = need("xarray", "paper")
    table = store.load("surface") if surface is None else surface
    stage = store.load("decode_stage") if stage is None else stage
    best = table.sel(guidance=table.attrs["best_guidance"])
    known = {axis: set(best[axis].values.tolist()) for axis in ("prior_steps", "decode_steps")}
    chosen = [pair for pair in ALLOCATIONS if pair[0] in known["prior_steps"] and pair[1] in known["decode_steps"]]
    metrics = [*DEFINITIONS, *FURTHER]

    def columns(source: Any, cells: Any, names: Any) -> list[Any]:
        return [np.array([[float(cell(source[f"{m}{end}"])) for m in names] for cell in cells]) for end in ENDS]

    values = columns(best, [_at(prior_steps=p, decode_steps=d) for p, d in chosen], metrics)
    of_stage = [*metrics, *DETAIL]
    stages = columns(stage, [_at(enlargement=name) for name in stage["enlargement"].values], of_stage)
    rivals = [name for name in stage["enlargement"].values if name != "decode"]
    gains = [[[float(stage[f"{m}_gain{end}"].sel(enlargement=r)) for m in GAINED] for r in rivals] for end in ENDS]
    names = ("value", "low", "high")
    measured = {"provenance": "measured"}
    return xarray.Dataset(
        {name: (("allocation", "metric"), v, measured) for name, v in zip(names, values, strict=True)}
        | {
            f"stage_{name}": (("enlargement", "stage_metric"), v, measured)
            for name, v in zip(names, stages, strict=True)
        }
        | {f"gain_{name}": (("rival", "gained"), v, measured) for name, v in zip(names, gains, strict=True)}
        | {
            "definition": ("metric", [DEFINITIONS.get(m, ("", "", ""))[1] for m in metrics], {"provenance": "given"}),
            "meaning": ("metric", [DEFINITIONS.get(m, ("", "", ""))[2] for m in metrics], {"provenance": "given"}),
        },
        coords={
            "allocation": [f"{p} + {d}" for p, d in chosen],
            "metric": metrics,
            "enlargement": stage["enlargement"].values,
            "stage_metric": of_stage,
            "rival": rivals,
            "gained": list(GAINED),
        },
        attrs={
            "guidance": table.attrs["best_guidance"],
            "images": table.attrs["images_a_cell"],
            "captions": table.attrs["captions"],
            "stage_images": stage.attrs["images_a_cell"],
            "stage_guidance": stage.attrs["guidance"],
            "stage_prior_steps": stage.attrs["prior_steps"],
            "stage_decode_steps": stage.attrs["decode_steps"],
            **{f"real_{name}": float(stage[f"real_{name}"]) for name in ("clip", "attributes")},
        },
    )


ENDS = ("", "_low", "_high")


def _at(**where: Any) -> Any:
    return lambda values: values.sel(**where)


def point(table: Any) -> str:
    """What steps and the decode stage give, in one sentence."""
    few, most = (table.sel(allocation=table["allocation"].values[end]) for end in (0, -1))
    scores = [float(row["value"].sel(metric=metric)) for metric in ("attributes", "clip") for row in (few, most)]
    gain, low, high = (
        float(table[f"gain_{end}"].sel(rival="bicubic", gained="psnr")) for end in ("value", "low", "high")
    )
    names = [str(row["allocation"].item()) for row in (few, most)]
    return (
        f"From {names[0]} to {names[1]} steps all attributes are right in {100 * scores[0]:.1f} to "
        f"{100 * scores[1]:.1f} % of the images and the CLIP score goes from {scores[2]:.1f} to {scores[3]:.1f}; the "
        f"decode stage gains {gain:.1f} dB [{low:.1f}, {high:.1f}] of PSNR over bicubic upsampling."
    )


def draw(table: Any) -> Any:
    """Markdown: definitions, values, and the decode stage."""
    heads = {m: DEFINITIONS[m][0] if m in DEFINITIONS else FURTHER[m][0] for m in table["metric"].values}
    lines = ["**given: definitions**", "", "| metric | definition | meaning |", "|---|---|---|"]
    for metric in DEFINITIONS:
        row = table.sel(metric=metric)
        lines.append(f"| {heads[metric]} | {_cell(row['definition'].item())} | {row['meaning'].item()} |")
    a = table.attrs
    what = f"{a['images']} images of {a['captions']} held-out captions, guidance {a['guidance']:g}, 95 % intervals"
    lines += ["", f"**measured: {what}**", ""]
    lines += _block(table, "allocation", "prior + decoding steps", "", heads)
    lines += [
        "",
        f"By the checker, {100 * a['real_attributes']:.1f} % of real renders have all attributes right; their CLIP "
        f"score "
        f"is {a['real_clip']:.1f}.",
        "",
        "**measured: the decode stage against upsampling, "
        f"{a['stage_images']} images, guidance {a['stage_guidance']:g}, {a['stage_prior_steps']} + "
        f"{a['stage_decode_steps']} steps; LPIPS and "
        "PSNR on real 32 to 64 pixel pairs, the rest on generated images**",
        "",
    ]
    lines += _block(table, "enlargement", "32 to 64 pixels by", "stage_", heads | DETAIL, "stage_metric")
    lines += ["", *_verdict(table, heads | DETAIL)]
    lines += ["", "**measured: what the decode stage gains over each of them, image by image**", ""]
    gained = {name: heads[name] for name in table["gained"].values}
    lines += _block(table, "rival", "gain over", "gain_", gained, "gained", "+")
    return "\n".join(lines) + "\n"


def _verdict(table: Any, heads: dict[str, str]) -> list[str]:
    """By which metrics the decode stage's interval lies apart from each rival's."""
    lines = []
    for rival in table["rival"].values:
        found: dict[str, list[str]] = {"better": [], "worse": [], "": []}
        for metric, head in heads.items():
            ours, theirs = (
                table.sel(enlargement=name, stage_metric=metric)[["stage_low", "stage_high"]].to_array().values
                for name in ("decode", rival)
            )
            above, below = ours[0] > theirs[1], ours[1] < theirs[0]
            side = (above, below) if metric in _HIGHER else (below, above)
            found["better" if side[0] else "worse" if side[1] else ""].append(head)
        apart, worse = (", ".join(found[name]) or "none" for name in ("better", "worse"))
        lines.append(
            f"Intervals apart, the decode stage better than {rival}: {apart}; worse: {worse}; "
            "by the others they overlap."
        )
    return lines


def _block(
    table: Any, dimension: str, title: str, prefix: str, heads: dict[str, str], over: str = "metric", sign: str = ""
) -> list[str]:
    lines = [f"| {title} | {' | '.join(heads.values())} |", "|---" * (len(heads) + 1) + "|"]
    for name in table[dimension].values:
        row = table.sel({dimension: name})
        cells = []
        for metric in heads:
            low, mean, high = (float(row[f"{prefix}{end}"].sel({over: metric})) for end in ("low", "value", "high"))
            cells.append(f"{mean:{sign}.4g} ({low:{sign}.4g} to {high:{sign}.4g})")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _cell(text: str) -> str:
    # A bar would end the cell.
    return text.replace("|", "‖")
