"""What a person sees of a request: progress bars over the steps, and the image as a PNG."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from numpy.typing import NDArray

from edgeinfer._extras import need
from edgeinfer._files import replacing


def writer(path: str) -> Callable[[NDArray[Any]], None]:
    """A function that writes an (H, W, 3) uint8 image to `path`, whole or not at all.

    Made before the computing, so that a missing library or folder does not cost an image.
    """
    library = need("PIL.Image", "plots")
    folder = os.path.dirname(os.path.abspath(path))
    if not os.access(folder, os.W_OK):
        raise ValueError(f"output = {path!r}: its folder must exist and be writable")

    def write(image: NDArray[Any]) -> None:
        with replacing(path) as temporary:
            library.fromarray(image).save(temporary, format="PNG")

    return write


@contextmanager
def bars() -> Iterator[Callable[[str, int, int], None]]:
    """progress(stage, done, total) that draws a bar a stage."""
    tqdm = need("tqdm", "bridge").tqdm
    shown: dict[str, Any] = {}

    def progress(stage: str, done: int, total: int) -> None:
        if stage not in shown:
            shown[stage] = tqdm(total=total, desc=stage, unit="step")
        shown[stage].update(done - shown[stage].n)

    try:
        yield progress
    finally:
        for bar in shown.values():
            bar.close()
