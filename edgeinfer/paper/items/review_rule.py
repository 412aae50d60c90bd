"""What reviewing only in doubt saves."""

from typing import Any

import numpy as np

from edgeinfer._extras import need
from edgeinfer.estimates import largest_share, mean, proportion
from edgeinfer.paper.drawing import style
from edgeinfer.paper.items.figure4 import COMMAND, COOPERATIVE
from edgeinfer.paper.measured import store
from edgeinfer.paper.measured.outcomes import Outcomes, by_rules
from edgeinfer.paper.measured.subjects import REPAINTED
from edgeinfer.strategies.reviewing import calibrate

TITLE = "Review only in doubt: what it keeps and what it saves"
PAPER = "The paper has results reviewed only where they are uncertain or in conflict, and gives no rule and no figure."
HERE = (
    "A picture is reviewed where the lesser margin of two checkers is small: the edge paints another and the better is "
    "kept. The threshold is calibrated on captions of their own so that, with 95 % confidence, at most 1 % of what is "
    "released unreviewed is wrong."
)
PAINTERS, REVIEWER = ("2+1 0", "4+1 0"), "8+4 3"
_SHARES = (0.0, 0.02, 0.04, 0.06, 0.08, 0.1, 0.13, 0.16, 0.2, 0.25, 0.3, 0.4, 0.5, 1.0)
_COLOURS = (style.BLUE, style.ORANGE)


def data(*, measured: Any = None) -> Any:
    """Over (painter, share), share those of calibration that a threshold reviews: what comes of it on fresh captions.

    Parameters
    ----------
    measured : xarray.Dataset, optional
        What `measured.subjects` writes; the shipped one by default.

    Returns
    -------
    xarray.Dataset
        `reviewed`; `wrong`, of the unreviewed, and `wrong_at_most`, its upper end at 95 %; `right`, of all, with ends;
        `kept`, the share of the gain of reviewing all, with ends of a bootstrap over captions; `flop`. Over painter:
        `rule_threshold`, `rule_reviewed`, `rule_wrong`, `rule_wrong_at_most` of calibration, and `fresh_...` what the
        same rule does on fresh captions.
    """
    xarray = need("xarray", "paper")
    table = store.load("subjects", COMMAND) if measured is None else measured
    _, told, other = by_rules(table, COOPERATIVE, REPAINTED)
    over = [[_cell(told, other, painter, share) for share in _SHARES] for painter in PAINTERS]
    rules = [_rule(told, other, painter) for painter in PAINTERS]
    kind = {"provenance": "measured"}
    columns: dict[str, Any] = {
        key: (("painter", "share"), [[cell[key] for cell in row] for row in over], kind) for key in over[0][0]
    }
    columns |= {key: ("painter", [rule[key] for rule in rules], kind) for key in rules[0]}
    names = [painter.split()[0] for painter in PAINTERS]
    return xarray.Dataset(columns, {"painter": names, "share": list(_SHARES)}, dict(table.attrs))


def _cell(told: Outcomes, other: Outcomes, painter: str, share: float) -> dict[str, float]:
    lead = other.lead(painter)[other.painted(painter)]
    limits = {0.0: -np.inf, 1.0: np.inf}
    threshold = limits.get(share, float(np.quantile(lead, share, method="lower")))
    both = told.drawn(painter) & told.drawn(REVIEWER)
    done, all_reviewed, none = (told.reviewed(painter, REVIEWER, t) for t in (threshold, np.inf, -np.inf))
    gain = all_reviewed.right[both].astype(float) - none.right[both]
    got = done.right[both].astype(float) - none.right[both]
    low, value, high = _ratio(got, gain)
    right = proportion(done.right[both])
    return _unreviewed(told, painter, threshold) | {
        "right": right.value,
        "right_low": right.low,
        "right_high": right.high,
        "kept": value,
        "kept_low": low,
        "kept_high": high,
        "flop": float(done.flop[both].mean()),
    }


def _ratio(part: Any, whole: Any, resamples: int = 1000) -> tuple[float, float, float]:
    """Ratio of two means of the same captions, with the ends of its percentile bootstrap, 95 %."""
    rng, n = np.random.default_rng(5), len(whole)
    drawn = rng.multinomial(n, np.full(n, 1 / n), size=resamples)
    gains = drawn @ whole
    ratios = (drawn @ part)[gains > 0] / gains[gains > 0]
    low, high = np.quantile(ratios, [0.025, 0.975]) if ratios.size else (np.nan, np.nan)
    return float(low), float(part.sum() / whole.sum()) if whole.sum() else np.nan, float(high)


def _unreviewed(told: Outcomes, painter: str, threshold: float) -> dict[str, float]:
    known = told.painted(painter)
    kept = (told.lead(painter) > threshold)[known]
    wrong = int((kept & (told.told(painter, "right")[known] == 0)).sum())
    count = int(kept.sum())
    return {
        "reviewed": float(1 - kept.mean()),
        "wrong": wrong / count if count else 0.0,
        "wrong_at_most": largest_share(wrong, count) if count else 0.0,
    }


def _rule(told: Outcomes, other: Outcomes, painter: str) -> dict[str, float]:
    known = other.painted(painter)
    rule = calibrate(other.lead(painter)[known], other.told(painter, "right")[known] == 1)
    fresh = _unreviewed(told, painter, rule.threshold)
    both = told.drawn(painter) & told.drawn(REVIEWER)
    done, whole, none = (told.reviewed(painter, REVIEWER, t) for t in (rule.threshold, np.inf, -np.inf))
    low, value, high = _ratio(
        done.right[both].astype(float) - none.right[both], whole.right[both].astype(float) - none.right[both]
    )
    saved = mean((whole.flop[both] - done.flop[both]) / whole.flop[both].mean())
    return {
        "rule_threshold": rule.threshold,
        "rule_reviewed": rule.reviewed,
        "rule_wrong": rule.wrong,
        "rule_wrong_at_most": rule.wrong_at_most,
        **{f"fresh_{key}": number for key, number in fresh.items()},
        "fresh_kept": value,
        "fresh_kept_low": low,
        "fresh_kept_high": high,
        "fresh_saved": saved.value,
        "captions": int(told.painted(painter).sum()),
        "reviewable": int(both.sum()),
    }


def point(table: Any) -> str:
    """What the calibrated rule does, in one sentence."""
    row = table.isel(painter=0)
    return (
        f"Reviewing {float(row['fresh_reviewed']):.1%} of the pictures of {row['painter'].values} keeps "
        f"{float(row['fresh_kept']):.0%} [{float(row['fresh_kept_low']):.0%}, {float(row['fresh_kept_high']):.0%}] of "
        f"the gain of reviewing all and saves {float(row['fresh_saved']):.0%} of its FLOP; "
        f"{float(row['fresh_wrong']):.2%} of what is released unreviewed is wrong."
    )


def tell(table: Any) -> str:
    """The calibrated rules on fresh captions: Markdown."""
    lines = [
        "| painter | calibrated: reviewed % | wrong % of the unreviewed, at most | fresh captions | reviewed % | "
        "wrong % of the unreviewed, at most | gain kept % | FLOP saved % |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in table["painter"].values:
        cell = table.sel(painter=name)
        value = {key: float(cell[key]) for key in cell.data_vars if cell[key].ndim == 0}
        lines.append(
            f"| {name} | {100 * value['rule_reviewed']:.1f} | {100 * value['rule_wrong']:.2f}, "
            f"{100 * value['rule_wrong_at_most']:.2f} | {value['captions']:.0f} | "
            f"{100 * value['fresh_reviewed']:.1f} | "
            f"{100 * value['fresh_wrong']:.2f}, {100 * value['fresh_wrong_at_most']:.2f} | "
            f"{100 * value['fresh_kept']:.0f} [{100 * value['fresh_kept_low']:.0f}, "
            f"{100 * value['fresh_kept_high']:.0f}] of {value['reviewable']:.0f} | {100 * value['fresh_saved']:.0f} |"
        )
    return "\n".join(lines) + "\n"


@style.drawing
def draw(table: Any) -> Any:
    """Gain kept, wrong among the unreviewed, and FLOP, over the share reviewed."""
    figure, (first, second, third) = style.subplots(1, 3, size=(10.6, 4.2))
    for name, colour in zip(table["painter"].values, _COLOURS, strict=True):
        row = table.sel(painter=name)
        x = 100 * row["reviewed"]
        first.fill_between(x, 100 * row["kept_low"], 100 * row["kept_high"], color=colour, alpha=0.2, linewidth=0)
        first.plot(x, 100 * row["kept"], "o-", color=colour, markersize=3, label=f"{name}, reviewed by 8+4")
        some = row["reviewed"] < 1
        second.plot(x[some], 100 * row["wrong"][some], "o-", color=colour, markersize=3)
        second.plot(x[some], 100 * row["wrong_at_most"][some], "--", color=colour, linewidth=0.9)
        third.plot(row["flop"] / 1e9, 100 * row["right"], "o-", color=colour, markersize=3)
        for axes in (first, second):
            axes.axvline(100 * float(row["fresh_reviewed"]), color=colour, linewidth=0.8, linestyle=":")
    second.axhline(1, color="0.4", linewidth=0.8)
    first.set_ylabel("gain of reviewing all that is kept (%)")
    second.set_ylabel("wrong among the unreviewed (%), dashed: at most")
    for axes in (first, second):
        axes.set_xlabel("reviewed (%)")
        axes.set_xscale("symlog", linthresh=10)
    third.set_xlabel("FLOP a request (GFLOP)")
    third.set_ylabel("right by the referee (%)")
    first.legend(fontsize=8)
    for axes in (first, second, third):
        axes.grid(True, color="0.9", linewidth=0.6)
    return figure
