"""Storyboards that the planners write exactly, by length and by what was held out of their training."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from edgeinfer import _validate
from edgeinfer._extras import need
from edgeinfer.network.machine import machine
from edgeinfer.network.zoo import shipped
from edgeinfer.paper.measured import store
from edgeinfer.scenes import storyboards
from edgeinfer.strategies.planner import PLANNERS, Planner

#: Numbers of frames, and what is held out: nothing, sets of objects, forms of sentences.
FRAMES, HELD = (2, 4, 6, 8), ("none", "objects", "forms")


def measure(
    out: str | Path = store.FOLDER, *, count: int = 1000, frames: tuple[int, ...] = FRAMES, seed: int = 2026
) -> Path:
    """Judge fresh storyboards and write `storyboards.nc`; some minutes on one core.

    Greedy decoding writes a storyboard exactly where each word of its answer is the likeliest after those before it, so
    one pass over both decides. Frames are judged likewise, given that those before them are right.

    Parameters
    ----------
    out : path
        Folder of the file, which is replaced as a whole.
    count : int
        Storyboards of each number of frames and kind, >= 1.
    frames : tuple of int
    seed : int
        Of what is drawn; training draws with other seeds.

    Returns
    -------
    Path
    """
    xarray = need("xarray", "paper")
    count = _validate.whole("count", count, 1)
    planners = [Planner(name=name) for name in PLANNERS]
    exact = np.zeros((len(PLANNERS), len(HELD), len(frames), count), np.int8)
    right, asked = np.zeros((2, len(PLANNERS), len(HELD), len(storyboards.KINDS)), np.int64)
    for j, held in enumerate(HELD):
        for k, number in enumerate(frames):
            rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(j, number)))
            boards = storyboards.draw(count, rng, frames=number, held=None if held == "none" else held)
            for i, planner in enumerate(planners):
                for n, board in enumerate(boards):
                    frame_right = planner.right(board)
                    exact[i, j, k, n] = frame_right.all()
                    for kind, is_right in zip(board.kinds, frame_right[1:], strict=True):
                        at = storyboards.KINDS.index(kind)
                        right[i, j, at] += is_right
                        asked[i, j, at] += 1
    files = {name: (shipped("scenes") / name / "model.onnx").read_bytes() for name in PLANNERS}
    about: dict[str, Any] = {"units": "1", "provenance": "measured"}
    axes = ("planner", "held_out")
    table = xarray.Dataset(
        {
            "exact": ((*axes, "frames", "storyboard"), exact, about | {"long_name": "whether all frames are right"}),
            "right": ((*axes, "kind"), right, about | {"long_name": "frames that are right, by the edit"}),
            "asked": ((*axes, "kind"), asked, about | {"long_name": "frames, by the edit"}),
        },
        coords={
            "planner": list(PLANNERS),
            "held_out": list(HELD),
            "frames": list(frames),
            "kind": list(storyboards.KINDS),
        },
        attrs={"seed": seed, **machine()}
        | {f"{name}_sha256": hashlib.sha256(file).hexdigest() for name, file in files.items()},
    )
    return store.write(table, Path(out) / "storyboards.nc")
