"""Options and types of parameters that several commands share, and what is made of them."""

import math
from collections.abc import Iterable
from dataclasses import fields
from typing import Any, ClassVar

import click
import numpy as np
from click.core import ParameterSource

import edgeinfer
from edgeinfer import paper

NUMBERS_HELP = "A number, several separated by commas, or START:STOP:COUNT."


class Real(click.FloatRange):
    """A float in a range, finite unless the range is said to hold infinity."""

    def __init__(self, min: float | None = None, *, min_open: bool = False, infinite: bool = False) -> None:
        super().__init__(min, min_open=min_open)
        self.infinite = infinite

    def _describe_range(self) -> str:
        # Of no end at all click says "x<=None".
        return "" if self.min is None else super()._describe_range()

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        number = super().convert(value, param, ctx)
        if math.isnan(number) or (math.isinf(number) and not self.infinite):
            self.fail(f"{value!r} is not a finite number", param, ctx)
        return number


class _Numbers(Real):
    name = "numbers"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if not isinstance(value, str):
            return value
        parts = value.split(":") if ":" in value else value.split(",")
        numbers = []
        for part in parts if ":" not in value else parts[:2]:
            try:
                numbers.append(float(part))
            except ValueError:
                self.fail(f"{value!r} is not a number, a list 1,2,3 or START:STOP:COUNT", param, ctx)
        if ":" in value:
            if len(parts) != 3 or not parts[2].isdecimal() or int(parts[2]) < 1 or not all(map(math.isfinite, numbers)):
                self.fail(f"{value!r} is not START:STOP:COUNT with COUNT a whole number >= 1", param, ctx)
            numbers = np.linspace(numbers[0], numbers[1], int(parts[2])).tolist()
        return np.array([super(_Numbers, self).convert(number, param, ctx) for number in numbers])


POSITIVE = Real(0, min_open=True)
NUMBERS = _Numbers()
TIMES, RATES = _Numbers(0, infinite=True), _Numbers(0, min_open=True)


class _Arrivals(click.ParamType):
    """The shape of a renewal process: what gives it at a rate."""

    name = "process"
    #: The parameter that follows a colon, and whether the process has one without it.
    kinds: ClassVar[dict[str, tuple[str, bool]]] = {
        "poisson": ("", True),
        "periodic": ("", True),
        "erlang": ("PHASES", True),
        "hyperexponential": ("SQUARED_VARIATION", True),
        "gamma": ("BURSTINESS", False),
    }

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if isinstance(value, edgeinfer.ArrivalProcess):
            return value
        kind, mark, text = value.partition(":")
        if kind not in self.kinds:
            self.fail(f"{value!r}: must be one of {', '.join(self.forms())}", param, ctx)
        parameter, complete = self.kinds[kind]
        if (mark and not parameter) or not (mark or complete):
            self.fail(f"{value!r}: must be {self.forms()[list(self.kinds).index(kind)]}", param, ctx)
        if kind == "periodic":
            return edgeinfer.Periodic(1.0)
        try:
            numbers = [click.FLOAT.convert(text, param, ctx)] if mark else []
            return getattr(edgeinfer, kind.capitalize())(1.0, *numbers)
        except ValueError as error:
            self.fail(f"{value!r}: {error}", param, ctx)

    def forms(self) -> list[str]:
        return [f"{kind}:{parameter}" if parameter else kind for kind, (parameter, _) in self.kinds.items()]


#: A renewal process at the rate 1/s, or None; the command gives it its rate.
ARRIVALS = click.option(
    "--arrivals",
    default=None,
    type=_Arrivals(),
    help=f"How requests come, at the arrival rate: {', '.join(_Arrivals().forms())}; poisson by default.",
)


def refuse(reason: str, *names: str) -> None:
    """UsageError where one of these parameters of the command was given: silently, it would have no effect."""
    context = click.get_current_context()
    unset = (ParameterSource.DEFAULT, ParameterSource.DEFAULT_MAP, None)
    given = [
        max(parameter.opts, key=len)
        for parameter in context.command.params
        if parameter.name in names and context.get_parameter_source(parameter.name) not in unset
    ]
    if given:
        raise click.UsageError(f"{', '.join(given)}: {reason}")


_SCENARIOS = {"paper": paper.scenario, "measured": paper.measured_scenario}
BASE = click.option(
    "--scenario",
    "base",
    default="paper",
    show_default=True,
    type=click.Choice(list(_SCENARIOS)),
    help="What --set changes: the paper's, or the shipped cascade's own numbers.",
)


def read_pairs(settings: Iterable[str], option: str = "--set") -> dict[str, str]:
    """NAME=VALUE settings as they are, UsageError for one that is not, and for a name set twice."""
    values: dict[str, str] = {}
    for setting in settings:
        name, mark, value = setting.partition("=")
        if not mark:
            raise click.UsageError(f"{option} {setting}: must be NAME=VALUE")
        if name in values:
            raise click.UsageError(f"{option} {setting}: {name} is set twice")
        values[name] = value
    return values


def read_number(name: str, text: str, option: str = "--set") -> float:
    """The number of a setting, UsageError where it is none."""
    try:
        return float(text)
    except ValueError:
        raise click.UsageError(f"{option} {name}={text}: {text!r} is not a number") from None


def read_scenario(settings: tuple[str, ...], base: str = "paper") -> Any:
    """The scenario of --scenario with the changes of --set, UsageError where one is not NAME=VALUE."""
    changes = {name: read_number(name, text) for name, text in read_pairs(settings).items()}
    return _SCENARIOS[base]().replace(**changes)


def set_names(settings: tuple[str, ...]) -> set[str]:
    """Names that --set gives a value."""
    return {setting.partition("=")[0] for setting in settings}


#: What of a scenario a link is made of.
LINK_PARAMETERS = {field.name for field in fields(edgeinfer.RayleighLink)} - {"mean_snr", "fading"}


def only_set(settings: tuple[str, ...], allowed: set[str], what: str, option: str = "--set") -> None:
    """UsageError where a parameter of the scenario is set on which the result does not depend."""
    known = {field.name for field in fields(paper.Scenario)}
    for name in sorted(set_names(settings) & known - allowed):
        raise click.UsageError(
            f"{option} {name}: {what} does not depend on it: must be one of {', '.join(sorted(allowed))}"
        )


def one_rate(settings: tuple[str, ...]) -> None:
    """UsageError where the arrival rate is given by an option and by --set."""
    if "arrival_rate" in set_names(settings):
        refuse("takes the place of --set arrival_rate: must be one of the two", "arrival_rate")


def together(*options: Any) -> Any:
    """Several options as one decorator, listed by --help in this order."""

    def add(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return add


_JSON = 'JSON; what is not finite is the string "Infinity", "-Infinity" or "NaN".'
FORM = together(
    click.option("--json", "form", flag_value="json", help=_JSON),
    click.option("--csv", "form", flag_value="csv", help="CSV."),
    click.option("--table", "form", flag_value="table", default="table", help="A table (default)."),
)
COMMON = together(
    BASE,
    click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="NAME=VALUE",
        help="A scenario parameter, SI units; may be repeated. `edgeinfer latency --parameters` lists them.",
    ),
    FORM,
)
TRACE = click.option(
    "--trace", default=None, type=click.Path(dir_okay=False), help="Append JSON lines of what happened when."
)
STDIN = click.option(
    "--exit-with-stdin", "watch", is_flag=True, help="End when stdin closes, for a parent that may die."
)
THREADS = click.option(
    "--threads",
    default=None,
    type=click.IntRange(min=1),
    help="Of one network pass; by default 1 for an ONNX file, ONNX Runtime's choice for the cascade.",
)
DEADLINE = together(
    click.option("--deadline", default=60.0, show_default=True, type=POSITIVE, help="s."),
    click.option(
        "--patience",
        default=None,
        type=POSITIVE,
        help="How long the edge may take, s; the deadline, or half of it with --fallback.",
    ),
    click.option("--fallback", is_flag=True, help="Run everything here if the edge fails."),
)
LEVEL = click.option(
    "--level",
    default="all",
    show_default=True,
    type=click.Choice(["disabled", "basic", "extended", "all"]),
    help="ONNX Runtime's graph optimisation.",
)
SHAPE = click.option(
    "--shape",
    "shapes",
    multiple=True,
    metavar="NAME=SIZES",
    help="Sizes of an input, 1,3,224,224, or of a size that the file names, batch=1; those that the file leaves free.",
)


def read_sizes(shapes: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    """Sizes by input or by named size, of --shape NAME=SIZES."""
    sizes = {}
    for shape in shapes:
        # A name may hold "=", sizes hold none.
        name, mark, text = shape.rpartition("=")
        parts = text.split(",") if text else []
        if not mark or not all(part.isdecimal() for part in parts):
            raise click.UsageError(f"--shape {shape}: must be NAME=SIZES")
        sizes[name] = tuple(map(int, parts))
    return sizes


INPUT = click.option(
    "--input",
    "source",
    default=None,
    type=click.Path(exists=True, dir_okay=False),
    help=".npy of the one input, or .npz of all by name; made up by default.",
)


def read_feeds(model: str, source: str | None) -> dict[str, Any] | None:
    """Inputs from the file of --input."""
    from edgeinfer.bridge.cutting.sessions import whole_file
    from edgeinfer.network.loading import input_ranks

    if source is None:
        return None
    names = tuple(input_ranks(whole_file(model)))
    try:
        found = np.load(source, allow_pickle=False)
        if isinstance(found, np.ndarray):
            if len(names) != 1:
                raise ValueError(f"one array: must be .npz with {', '.join(map(repr, names))}")
            return {names[0]: found}
        with found:
            return {name: found[name] for name in found.files}
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"--input {source}: {error}") from error


STATE = click.option(
    "--state",
    "pairs",
    multiple=True,
    metavar="OUT=IN",
    help=(
        "An output that is an input of the next request, such as stateN=state; found by their names by default; none: "
        "there is no state."
    ),
)

WIRE = together(
    click.option(
        "--wire",
        default="float32",
        show_default=True,
        type=click.Choice(["auto", "float32", "float16", "int8"]),
        help="What floats cross to the edge as: float32, as they are; narrower; or as narrow as --tolerance lets them.",
    ),
    click.option(
        "--tolerance",
        default=0.01,
        show_default=True,
        type=Real(0),
        help="Largest change of an output, relative to its largest magnitude, that --wire auto may bring about.",
    ),
)


def read_state(graph: Any, pairs: tuple[str, ...]) -> dict[str, str]:
    """State by --state OUT=IN, or, where it is not given, as the names say, which is told on stderr."""
    from edgeinfer.network import find_state

    if pairs == ("none",):
        return {}
    if not pairs:
        found = find_state(graph)
        if found:
            shown = ", ".join(f"{given}={taken}" for given, taken in found.items())
            click.echo(f"edgeinfer: state, by the names: {shown}; --state none: there is none", err=True)
        return found
    state: dict[str, str] = {}
    for pair in pairs:
        # A name may hold "=", too.
        parts = [(pair[:i], pair[i + 1 :]) for i, letter in enumerate(pair) if letter == "="]
        if not parts:
            raise click.UsageError(f"--state {pair}: must be OUT=IN, or none alone")
        known = [part for part in parts if part[0] in graph.outputs and part[1] in graph.inputs]
        given, taken = (known or parts)[0]
        if state.setdefault(given, taken) != taken:
            raise click.UsageError(f"--state {pair}: {given!r} must be given once")
    try:
        graph.with_state(state)
    except ValueError as error:
        raise ValueError(f"--{error}") from error
    return state
