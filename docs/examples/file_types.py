"""What type of content a file has, by the network of the package magika: pip install magika."""

import json
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import rates

from edgeinfer import bridge

FOLDER = Path(find_spec("magika").submodule_search_locations[0]) / "models" / "standard_v3_3"
MODEL = FOLDER / "model.onnx"
SHAPES = {"bytes": (1, 2048)}


def features(content):
    """The first and the last 1024 bytes without white space before and behind, filled up with 256; (1, 2048) int32."""
    first, last = content[:4096].lstrip()[:1024], content[-4096:].rstrip()[-1024:]
    values = np.full((2, 1024), 256, np.int32)
    values[0, : len(first)] = list(first)
    values[1, 1024 - len(last) :] = list(last)
    return values.reshape(1, 2048)


def file_type(run, content):
    """The likeliest type and its score; `run` is the network, whole or cut."""
    labels = json.loads((FOLDER / "config.min.json").read_text())["target_labels_space"]
    (scores,) = run({"bytes": features(content)}).values()
    return labels[int(scores[0].argmax())], float(scores[0].max())


if __name__ == "__main__":
    with bridge.CutDevice(bridge.CutSessions(MODEL, SHAPES)) as device:
        for name in sys.argv[1:] or [__file__]:
            found, score = file_type(lambda feeds: device.infer(feeds).outputs, Path(name).read_bytes())
            print(f"{name}: {found} ({score:.3f})")
    rates.show(MODEL, SHAPES)
