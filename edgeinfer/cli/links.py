"""Links of every law from NAME=VALUE settings."""

from collections.abc import Callable
from typing import Any, NamedTuple

import click
import numpy as np

import edgeinfer
from edgeinfer.cli.options import LINK_PARAMETERS, only_set, read_number, read_pairs, read_scenario

#: A channel's own settings: those of a scenario's link, and what stands in for its power budget and its fading.
CHANNEL = (*sorted(LINK_PARAMETERS), "mean_snr", "fading")
_TEXTS = ("fading", "file", "column", "rates", "transition")
Values = dict[str, Any]


class _Kind(NamedTuple):
    needs: tuple[str, ...]
    takes: tuple[str, ...]
    build: Callable[[Values], Any]


def _numbers(name: str, text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise click.UsageError(f"{name}={text}: must be numbers separated by commas") from None


def read_fading(text: str) -> Any:
    """A fading law: rayleigh, nakagami:M, rician:K, or maximal_ratio:BRANCHES and best_of:USERS with a law behind them.

    Examples
    --------
    >>> read_fading("best_of:4:nakagami:2")
    BestOf(users=4.0, fading=Nakagami(m=2.0))
    """
    kind, _, rest = text.partition(":")
    number, _, inside = rest.partition(":")
    laws = {"nakagami": edgeinfer.Nakagami, "rician": edgeinfer.Rician}
    outer = {"maximal_ratio": edgeinfer.MaximalRatio, "best_of": edgeinfer.BestOf}
    try:
        if kind == "rayleigh" and not rest:
            return edgeinfer.Rayleigh()
        if kind in laws and not inside:
            return laws[kind](float(number))
        if kind in outer:
            return outer[kind](float(number), read_fading(inside or "rayleigh"))
    except ValueError as error:
        raise click.UsageError(f"fading={text}: {error}") from None
    raise click.UsageError(
        f"fading={text}: must be rayleigh, nakagami:M, rician:K, maximal_ratio:BRANCHES[:LAW] or best_of:USERS[:LAW]"
    )


def _channel(values: Values) -> Any:
    """The scenario's link with its settings changed."""
    given = {name: values[name] for name in LINK_PARAMETERS if name in values}
    law = {"fading": read_fading(values["fading"])} if "fading" in values else {}
    link = read_scenario(tuple(f"{name}={value!r}" for name, value in given.items())).link
    if "mean_snr" in values:
        budget = sorted({"tx_power_dbm", "noise_dbm", "path_loss_db"} & given.keys())
        if budget:
            raise click.UsageError(f"mean_snr: takes the place of {', '.join(budget)}: must be one of the two")
        return edgeinfer.FadingLink.from_snr(
            values["mean_snr"], link.bandwidth, link.slot, link.control_overhead, **law
        )
    return edgeinfer.FadingLink(**link.power_budget(), **law) if law else link


def _outage(values: Values) -> Any:
    link = edgeinfer.OutageLink
    if "rate" in values and "outage" in values:
        unused = sorted(set(CHANNEL) & values.keys() - {"slot"})
        if unused:
            raise click.UsageError(f"{', '.join(unused)}: rate and outage together say it all: must not be set")
        return link(values["rate"], values["outage"], values.get("slot", read_scenario(()).link.slot))
    if "rate" in values:
        return link.from_rate(_channel(values), values["rate"])
    if "outage" in values:
        return link.from_outage(_channel(values), values["outage"])
    return link.max_throughput(_channel(values))


def _markov(values: Values) -> Any:
    rows = [_numbers("transition", row) for row in values["transition"].split(";")]
    if len({len(row) for row in rows}) > 1:
        raise click.UsageError(f"transition={values['transition']}: rows must be of one length")
    return edgeinfer.MarkovLink(_numbers("rates", values["rates"]), np.array(rows), values["slot"])


def _doppler(values: Values) -> Any:
    states = values.get("states", 8.0)
    if not states.is_integer():
        raise click.UsageError(f"states={states:g}: must be a whole number")
    return edgeinfer.MarkovLink.from_doppler(_channel(values), values["doppler"], int(states))


def _file(read: Callable[..., Any]) -> Callable[[Values], Any]:
    def build(values: Values) -> Any:
        options = {name: value for name, value in values.items() if name != "file"}
        try:
            return read(values["file"], **options)
        except OSError as error:
            raise click.UsageError(f"file={values['file']}: {error.strerror}") from None

    return build


_GILBERT = ("good_rate", "bad_rate", "good_to_bad", "bad_to_good", "slot")
KINDS = {
    "fading": _Kind((), CHANNEL, _channel),
    "constant": _Kind(("rate",), ("latency",), lambda values: edgeinfer.ConstantLink(**values)),
    "outage": _Kind((), (*CHANNEL, "rate", "outage"), _outage),
    "gilbert_elliott": _Kind(_GILBERT, (), lambda values: edgeinfer.MarkovLink.gilbert_elliott(**values)),
    "markov": _Kind(("rates", "transition", "slot"), (), _markov),
    "doppler": _Kind(("doppler",), (*(name for name in CHANNEL if name != "fading"), "states"), _doppler),
    "mahimahi": _Kind(("file",), ("slot", "offset"), _file(edgeinfer.TraceLink.from_mahimahi)),
    "csv": _Kind(("file", "column", "slot"), ("unit", "offset"), _file(edgeinfer.TraceLink.from_csv)),
}


def read_link(settings: tuple[str, ...], option: str, what: str) -> Any:
    """The link of settings, of the kind that link=KIND names, by default a Rayleigh link.

    Parameters
    ----------
    settings : tuple of str
        NAME=VALUE; see `KINDS`. A fading channel has the paper's values where nothing else is set.
    option, what : str
        What the settings came from, and the direction, for errors.
    """
    values: Values = dict(read_pairs(settings, option))
    name = values.pop("link", "fading")
    if name not in KINDS:
        raise click.UsageError(f"{option} link={name}: must be one of {', '.join(KINDS)}")
    kind = KINDS[name]
    rest = tuple(f"{key}={text}" for key, text in values.items())
    if name == "fading":
        only_set(rest, {*kind.takes}, what, option)
    known = (*kind.needs, *kind.takes)
    for key in values:
        if key not in known:
            raise click.UsageError(f"{option} {key}: must be one of {', '.join(known)} where link={name}")
    missing = [key for key in kind.needs if key not in values]
    if missing:
        raise click.UsageError(f"{option} link={name}: needs {', '.join(f'{key}=...' for key in missing)}, too")
    return kind.build({key: text if key in _TEXTS else read_number(key, text, option) for key, text in values.items()})
