"""Figure 6: the signalling of one request, from the messages that the processes recorded."""

from pathlib import Path
from typing import Any

from edgeinfer._extras import need
from edgeinfer.bridge.wire.trace import read_trace
from edgeinfer.paper.drawing import style
from edgeinfer.paper.measured import store

TITLE = "Figure 6: signalling of a request"
PAPER = (
    "The paper names a task request, a resource status and a step allocation, and takes 1-2 KB a request for all "
    "signalling, much less than the data."
)
HERE = (
    "Here are the messages of a real request of the small cascade through an edge, a link and a device process, "
    "with their bytes and times. Its latent is small, so that signalling is a larger share than in the paper's "
    "case."
)
#: The paper's three kinds of signalling.
SIGNALLING = ("TaskRequest", "ResourceStatus", "StepAllocation")


def data(*, trace: str | Path | None = None) -> Any:
    """Messages and stages of the recorded request.

    Parameters
    ----------
    trace : path, optional
        Records as `bridge.read_trace` reads them; the shipped ones by default.

    Returns
    -------
    xarray.Dataset
        Over message: `name`, `source`, `sent` and `received` (s), `bytes`, `control`; over stage: `stage_name`,
        `process`, `begin`, `duration` (s). Attributes: bytes of the three signalling messages, of all messages but the
        payload, of everything that crossed the link but the payload (headers of HTTP/2 and gRPC's handshake included),
        the payload.
    """
    xarray = need("xarray", "paper")
    path = store.FOLDER / "trace.jsonl" if trace is None else Path(trace)
    if not path.exists():
        raise FileNotFoundError(f"{path}: is not there: `edgeinfer measure` makes it")
    records = read_trace(path)
    sent = [r for r in records if r["kind"] == "message" and r["direction"] == "sent"]
    messages: list[tuple[Any, Any]] = []
    for name in dict.fromkeys(r["name"] for r in sent):
        arrived = [r for r in records if r["kind"] == "message" and r["name"] == name and r["direction"] == "received"]
        messages += zip([r for r in sent if r["name"] == name], arrived, strict=True)
    messages.sort(key=lambda pair: pair[0]["time"])
    stages = [r for r in records if r["kind"] == "stage"]
    payload = sum(first.get("tensor", 0) for first, _ in messages)
    total = sum(first["bytes"] for first, _ in messages)
    crossed = sum(r["bytes"] for r in records if r["kind"] == "chunk")

    def column(values: Any, **attributes: str) -> Any:
        return list(values), {"provenance": "measured"} | attributes

    def over(dimension: str, **columns: Any) -> dict[str, Any]:
        return {name: (dimension, *values) for name, values in columns.items()}

    return xarray.Dataset(
        over(
            "message",
            name=column(first["name"] for first, _ in messages),
            source=column(first["process"] for first, _ in messages),
            sent=column((first["time"] for first, _ in messages), units="s"),
            received=column((second["time"] for _, second in messages), units="s"),
            bytes=column((first["bytes"] for first, _ in messages), units="B"),
            control=column(first["name"] in SIGNALLING for first, _ in messages),
        )
        | over(
            "stage",
            stage_name=column(r["name"] for r in stages),
            process=column(r["process"] for r in stages),
            begin=column((r["time"] for r in stages), units="s"),
            duration=column((r["duration"] for r in stages), units="s"),
        ),
        attrs={
            "signalling_bytes": sum(first["bytes"] for first, _ in messages if first["name"] in SIGNALLING),
            "overhead_bytes": total - payload,
            "link_overhead_bytes": crossed - payload,
            "payload_bytes": payload,
        },
    )


@style.drawing
def draw(table: Any) -> Any:
    """A sequence: time runs down, in order but not to scale; messages as arrows, stages as boxes."""
    rows = [(float(table["sent"][i]), "message", i) for i in range(table.sizes["message"])]
    rows += [(float(table["begin"][i]), "stage", i) for i in range(table.sizes["stage"])]
    rows.sort()
    figure, axes = style.subplots(size=(8.2, 1.2 + 0.5 * len(rows)))
    place = {"device": 0.0, "edge": 1.0}
    for name, x in place.items():
        axes.plot([x, x], [-0.6, len(rows) - 0.4], color="0.6", linewidth=1, zorder=0)
        axes.text(x, -0.8, name, ha="center", va="bottom", fontsize=10, weight="bold")
    for y, (_, kind, i) in enumerate(rows):
        if kind == "stage":
            _draw_stage(axes, y, table.isel(stage=i), place)
        else:
            _draw_message(axes, y, table.isel(message=i), place)
    a = table.attrs
    whole = a["link_overhead_bytes"] + a["payload_bytes"]
    axes.set_title(
        f"signalling {a['signalling_bytes']} B, all messages but the payload {a['overhead_bytes']} B, on the link "
        f"{a['link_overhead_bytes']} B ({a['link_overhead_bytes'] / whole:.0%} of all bytes); "
        f"payload {a['payload_bytes']} B",
        fontsize=8,
    )
    axes.set_xlim(-0.45, 1.45)
    axes.set_ylim(len(rows) - 0.3, -1.3)
    axes.axis("off")
    return figure


def _draw_message(axes: Any, y: int, row: Any, place: dict[str, float]) -> None:
    start = place[row["source"].item()]
    stop = 1 - start
    colour = style.BLUE if bool(row["control"]) else style.ORANGE
    axes.annotate("", (stop, y + 0.18), (start, y - 0.18), arrowprops={"arrowstyle": "->", "color": colour, "lw": 1.3})
    axes.text(
        0.5,
        y - 0.08,
        f"{row['name'].item()}, {int(row['bytes'])} B",
        ha="center",
        va="bottom",
        fontsize=8,
        color=colour,
        bbox={"boxstyle": "round,pad=0.1", "fc": "white", "ec": "none", "alpha": 0.8},
    )
    for x, name, shift in ((start, "sent", -0.18), (stop, "received", 0.18)):
        side = -1 if x == 0 else 1
        text = f"{1e3 * float(row[name]):.2f} ms"
        axes.text(x + 0.03 * side, y + shift, text, ha="right" if side < 0 else "left", va="center", fontsize=7)


def _draw_stage(axes: Any, y: int, row: Any, place: dict[str, float]) -> None:
    x = place[row["process"].item()]
    text = f"{row['stage_name'].item()}: {1e3 * float(row['duration']):.3g} ms"
    axes.text(
        x,
        y,
        text,
        ha="center",
        va="center",
        fontsize=8,
        bbox={"boxstyle": "round,pad=0.3", "fc": "#e8eef6" if x else "#fbeee2", "ec": "0.5"},
    )
    side = -1 if x == 0 else 1
    axes.text(
        x + 0.22 * side,
        y,
        f"{1e3 * float(row['begin']):.2f} ms",
        ha="right" if side < 0 else "left",
        va="center",
        fontsize=7,
    )
