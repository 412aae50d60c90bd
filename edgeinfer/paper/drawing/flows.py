"""Recorded runs of strategies as flows: who worked when, and what was said with how many bytes."""

from typing import Any

from edgeinfer.paper.drawing import style

_BOX = {"device": style.GREEN, "edge": style.ORANGE}
# Messages over the link lie this far apart, as a share of the whole run; others that are closer have no label.
_APART = 0.045
_SESSION = "interpreter@device"
_LABEL = 48


def draw(axes: Any, told: dict[str, Any]) -> None:
    """Lanes of agents, time downwards; a box for what an agent computed, an arrow for each message.

    Parameters
    ----------
    axes : matplotlib Axes
    told : dict
        What `Collaboration.summary` tells.
    """
    lanes = ["user@device", "interpreter@device"]
    for step in told["steps"]:
        lane = f"{step['role']}@{step['place']}"
        if lane not in lanes:
            lanes.append(lane)
    lanes.sort(key=lambda lane: lane.endswith("@edge"))
    total = told["seconds"] * 1e3
    place = {lane: k for k, lane in enumerate(lanes)}
    for lane, k in place.items():
        axes.plot([k, k], [0, total], color="0.85", linewidth=0.8, zorder=0)
        role, where = lane.split("@")
        axes.text(k, -0.06 * total, f"{role}\n{where}", ha="center", va="bottom", fontsize=7, color=_BOX[where])
    for step in told["steps"]:
        k, begin, end = place[f"{step['role']}@{step['place']}"], step["begin"] * 1e3, step["end"] * 1e3
        axes.fill_betweenx([begin, end], k - 0.12, k + 0.12, color=_BOX[step["place"]], alpha=0.6, linewidth=0)
    last, arrows = -total, []
    for said in told["messages"]:
        # What is answered goes to the session, which the interpreter opened.
        start, stop = (place.get(said[end] if "@" in said[end] else _SESSION) for end in ("sender", "receiver"))
        if start is None or stop is None or start == stop:
            continue
        crosses, when = bool(said["direction"]), said["time"] * 1e3
        if crosses:
            when = last = max(when, last + _APART * total)
        label = said["summary"] if said["kind"] in ("findings", "verdict") else said["kind"]
        arrows.append((start, stop, when, crosses, f"{label} {said['bytes']} B" if crosses else label[:_LABEL]))
    taken = [(when, set(range(len(lanes)))) for _, _, when, crosses, _ in arrows if crosses]
    for start, stop, when, crosses, label in arrows:
        arrow = {"arrowstyle": "->", "color": "black" if crosses else "0.6", "linewidth": 1.0 if crosses else 0.7}
        axes.annotate("", (stop, when), (start, when), arrowprops=arrow)
        over = set(range(min(start, stop), max(start, stop)))
        if crosses or not any(abs(when - other) < _APART * total and over & others for other, others in taken):
            taken.append((when, over))
            colour = "black" if crosses else "0.4"
            above = {"xytext": (0, 1.5), "textcoords": "offset points", "fontsize": 7, "color": colour}
            axes.annotate(label, ((start + stop) / 2, when), ha="center", va="bottom", **above)
    axes.set_xlim(-0.6, len(lanes) - 0.4)
    axes.set_ylim(total * 1.03, -0.2 * total)
    axes.set_xticks([])
    axes.set_ylabel("ms after the request", fontsize=8)
    shown = f"{told['reason']}; {told['rounds']} rounds, {told['up_bytes']} B up, {told['down_bytes']} B down"
    axes.set_xlabel(f"{shown}, {told['context_bytes']} B of context", fontsize=8)
