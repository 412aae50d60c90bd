"""Images of a few captions over prior and decoding steps, so that a reader sees what the scores are of."""

from typing import Any

import numpy as np

from edgeinfer.paper.drawing import style
from edgeinfer.paper.measured import store

TITLE = "Contact sheet: images over prior and decoding steps"
PAPER = "The paper shows no images."
HERE = (
    "These are of the small cascade in its toy world, for captions that training never saw, with one noise for "
    "all steps; on the right a real render of the caption."
)


def data(*, images: Any = None) -> Any:
    """The measured images.

    Parameters
    ----------
    images : xarray.Dataset, optional
        What `measurement.measure` writes; the shipped one by default.

    Returns
    -------
    xarray.Dataset
        `image` over (prior_steps, decode_steps, caption, y, x, channel), `real` over (caption, y, x, channel).
    """
    return store.load("images") if images is None else images


@style.drawing
def draw(table: Any) -> Any:
    """A block a caption, one below the other; rows are prior steps, columns decoding steps."""
    prior, decode = table["prior_steps"].values, table["decode_steps"].values
    captions = table["caption"].values
    figure, panels = style.subplots(
        captions.size, 1, size=(5.4, (0.75 * prior.size + 0.9) * captions.size), squeeze=False
    )
    side, gap = table.sizes["y"], 3
    for axes, caption in zip(panels.flat, captions, strict=True):
        part = table.sel(caption=caption)
        step = side + gap
        sheet = np.full((prior.size * step - gap, (decode.size + 1) * step + gap, 3), 255, dtype=np.uint8)
        for i, j in np.ndindex(prior.size, decode.size):
            sheet[i * step : i * step + side, j * step : j * step + side] = part["image"].values[i, j]
        right = decode.size * step + 2 * gap
        sheet[:side, right : right + side] = part["real"].values
        axes.imshow(sheet, interpolation="nearest")
        axes.set_xticks([*(np.arange(decode.size) * step + side / 2), right + side / 2], [*decode, "real"], fontsize=7)
        axes.set_yticks(np.arange(prior.size) * step + side / 2, prior, fontsize=7)
        axes.tick_params(length=0)
        for edge in axes.spines.values():
            edge.set_visible(False)
        axes.set_title(str(caption), fontsize=8)
        axes.set_xlabel("decoding steps", fontsize=8)
        axes.set_ylabel("prior steps", fontsize=8)
    return figure
