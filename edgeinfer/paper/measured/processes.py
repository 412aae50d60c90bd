"""One request traced through the processes, and the stages' times."""

import json
import tempfile
from pathlib import Path

from edgeinfer import bridge
from edgeinfer._files import replacing
from edgeinfer.bridge.wire.trace import Trace, read_trace
from edgeinfer.paper.measured.store import FOLDER
from edgeinfer.paper.scenario import scenario


def record_trace(
    folder: str | Path | None = None,
    out: str | Path = FOLDER,
    *,
    caption: str = "a red circle above a small blue square",
    prior_steps: int = 16,
    decode_steps: int = 8,
    seed: int = 1,
) -> Path:
    """Run one request through an edge and a link process and a device, and write what they recorded to `trace.jsonl`.

    The link is the paper's (`edgeinfer link` without settings). Times count from the request's first record.

    Parameters
    ----------
    folder, out
        They are as for `measure`.
    caption : str
    prior_steps, decode_steps : int
        Asked of the edge.
    seed : int
        The seeds of the image and of the link.

    Returns
    -------
    Path
    """
    root = bridge.load(folder).manifest.folder
    with tempfile.TemporaryDirectory() as place:
        with (
            bridge.Testbed(root, scenario().link, seed=seed, threads=None, folder=place) as bed,
            Trace(bed.trace("device"), "device") as log,
            bridge.Connection(bed.address) as connection,
        ):
            device = bridge.Device(bridge.load(root), connection, trace=log)
            device.cascade.prepare("decode")
            device.generate(bridge.Order(caption, seed, "split", prior_steps, decode_steps))
        records = read_trace(*map(bed.trace, ("edge", "link", "device")))
    first = next(record["time"] for record in records if record["request"])
    last = max(record["time"] for record in records if record["request"])
    lines = []
    for record in records:
        if record["request"] or (record["kind"] == "chunk" and first <= record["arrived"] <= last):
            moved = {name: record[name] - first for name in ("time", "arrived") if name in record}
            lines.append(json.dumps(record | moved))
    path = Path(out) / "trace.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n")
    return path


def record_profile(
    folder: str | Path | None = None, out: str | Path = FOLDER, *, prior_steps: int = 16, decode_steps: int = 8
) -> Path:
    """Measure the stages' times on this machine, one thread a network, and write them to `profile.json`.

    Parameters
    ----------
    folder, out
        They are as for `measure`.
    prior_steps, decode_steps : int

    Returns
    -------
    Path
    """
    path = Path(out) / "profile.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    bridge.profile(bridge.load(folder, threads=1), prior_steps, decode_steps).save(path)
    return path
