"""The command line `edgeinfer`: what the package computes, draws, measures, serves, asks and cuts, a command each."""

import re
import sys

import click

import edgeinfer
from edgeinfer.cli import analysis, asking, collaborating, cutting, paper, serving


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(edgeinfer.__version__)
def group() -> None:
    """Delay guarantees for device-edge collaborative inference.

    All commands start from the paper's Table 3 and the assumed values, or with --scenario measured from the shipped
    cascade's own numbers; --set changes them.
    """


for _room in (analysis, asking, collaborating, cutting, paper, serving):
    for _command in vars(_room).values():
        if isinstance(_command, click.Command):
            group.add_command(_command)

# The options that stand for these arguments.
_OPTIONS = {"shape": "--shape", "feed": "--input"}


def main() -> None:
    """Run the command line; bad input is one line on stderr and exit code 2."""
    try:
        group(standalone_mode=True)
    except (ValueError, ImportError, OSError) as error:
        # What a network lacks is given by an option here.
        option = {"shapes": "--shape NAME=SIZES", "feeds": "--input FILE"}.get(getattr(error, "argument", ""))
        said = f"{getattr(error, 'text', error)}; give {option}" if option else str(error)
        said = re.sub(r"\b(shape|feed)s\[('[^']*')\]", lambda m: f"{_OPTIONS[m[1]]} {m[2]}", said)
        said += "".join(f", {note}" for note in getattr(error, "__notes__", ()))
        click.echo(f"edgeinfer: {said}", err=True)
        sys.exit(2)
