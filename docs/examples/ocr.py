"""Text in a picture, by the detector and the recogniser of the package rapidocr-onnxruntime: pip install
rapidocr-onnxruntime."""

import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import rates
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from edgeinfer import bridge

FOLDER = Path(find_spec("rapidocr_onnxruntime").submodule_search_locations[0]) / "models"
DETECTOR, RECOGNISER = FOLDER / "ch_PP-OCRv4_det_infer.onnx", FOLDER / "ch_PP-OCRv4_rec_infer.onnx"
# Of a picture of 320 by 192, and of a line of text.
SHAPES = {DETECTOR: {"x": (1, 3, 192, 320)}, RECOGNISER: {"x": (1, 3, 48, 320)}}


def picture(lines):
    """Black text on white, 320 by 192."""
    image = Image.new("RGB", (320, 192), "white")
    for number, line in enumerate(lines):
        ImageDraw.Draw(image).text((20, 20 + 60 * number), line, "black", ImageFont.load_default(32))
    return image


def values(image):
    """(1, 3, height, width) float32 in [-1, 1], blue first."""
    return (np.asarray(image, np.float32)[None, :, :, ::-1].transpose(0, 3, 1, 2) / 127.5 - 1).copy()


def boxes(probability):
    """Left, top, right and bottom of each region of text, from the top down."""
    labels, _ = ndimage.label(ndimage.binary_dilation(probability > 0.3))
    for where in ndimage.find_objects(labels):
        rows, columns = where
        height = rows.stop - rows.start
        if height < 5 or probability[where].max() < 0.5:
            continue
        # The network finds the core of a line, which is wider by its area over its circumference.
        width = columns.stop - columns.start
        margin = int(np.ceil(1.6 * height * width / (2 * (height + width))))
        top, left = max(rows.start - margin, 0), max(columns.start - margin, 0)
        yield left, top, columns.stop + margin, rows.stop + margin


def text(scores):
    """The likeliest letter at each step, those that repeat once and without blanks."""
    letters = next(p.value for p in onnx.load(RECOGNISER).metadata_props if p.key == "character").splitlines()
    best = scores.argmax(axis=-1)
    alphabet = ["", *letters, " "]
    return "".join(alphabet[k] for k, before in zip(best, [0, *best[:-1]], strict=True) if k != before)


def read(image, detect, recognise):
    """Lines of text in a picture of 320 by 192; `detect` and `recognise` are the networks, whole or cut."""
    (probability,) = detect({"x": values(image)}).values()
    for box in boxes(probability[0, 0]):
        line = image.crop(box)
        width = min(320, round(48 * line.width / line.height))
        given = np.zeros(SHAPES[RECOGNISER]["x"], np.float32)
        given[..., :width] = values(line.resize((width, 48)))
        (scores,) = recognise({"x": given}).values()
        yield text(scores[0])


if __name__ == "__main__":
    image = (
        Image.open(sys.argv[1]).convert("RGB").resize((320, 192))
        if sys.argv[1:]
        else picture(["EDGE 42", "split here"])
    )
    devices = [bridge.CutDevice(bridge.CutSessions(model, shapes)) for model, shapes in SHAPES.items()]
    detect, recognise = (lambda feeds, device=device: device.infer(feeds).outputs for device in devices)
    print(*read(image, detect, recognise), sep="\n")
    for model, shapes in SHAPES.items():
        print(model.name)
        rates.show(model, shapes)
