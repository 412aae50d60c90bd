"""Every command that the documentation, the notebooks and the docstrings quote is one that the command line takes."""

import json
import re
import shlex
from pathlib import Path

import click
import pytest

import edgeinfer
from edgeinfer.cli import group
from edgeinfer.cli.links import read_link
from edgeinfer.cli.options import read_scenario
from edgeinfer.paper import items, measured

ROOT = Path(edgeinfer.__file__).parents[1]
#: Values of options that their commands check themselves.
KNOWN = {"only": set(measured.MEASURED), "items": set(items.ITEMS)}


def text_of(path):
    if path.suffix != ".ipynb":
        return path.read_text()
    return "\n\n".join("".join(cell["source"]) for cell in json.loads(path.read_text())["cells"])


def quotes(text):
    """Command lines, and whether they stand to be typed as they are: between backticks one may only be named."""
    for block in re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        for line in block.replace("\\\n", " ").splitlines():
            for command in re.split(r"[&|;]", line):
                if match := re.fullmatch(r"\s*\$?\s*(?:\S*/)?(edgeinfer\s+[a-z-].*)", command):
                    yield match[1], True
    for command in re.findall(r"^\s*Example: (edgeinfer\s.*?)(?:\n\s*\n|\"\"\")", text, re.DOTALL | re.MULTILINE):
        yield command, True
    for command in re.findall(r"(?<!`)`(edgeinfer\s[^`]*)`(?!`)", text):
        yield command, False


def found():
    names = (
        "*.md",
        "docs/**/*.md",
        "docs/**/*.py",
        "notebooks/*.ipynb",
        "edgeinfer/**/*.py",
        "training/*.py",
        "Makefile",
    )
    for name in names:
        for path in sorted(ROOT.glob(name)):
            if "_build" in path.parts:
                continue
            # CHANGELOG names what was: only the commands of this version have to be there.
            text = text_of(path)
            if path.name == "CHANGELOG.md":
                text = text.split("\n## ")[1]
            if path.name == "Makefile":
                text = "```\n" + re.sub(r"\$\((\w+)\)", r"\1", text) + "```\n"
            for command, whole in quotes(text):
                yield pytest.param(
                    shlex.split(command)[1:], whole, id=f"{path.relative_to(ROOT)}: {command.strip()[:60]}"
                )


def check(arguments, whole):
    """Raise what click raises where this would not be taken; what is only named may lack what it needs."""
    name, *arguments = arguments
    command = group.commands.get(name)
    if command is None:
        raise click.UsageError(f"no command {name}")
    try:
        context = command.make_context(name, list(arguments))
    except click.exceptions.Exit:  # --help
        return
    except click.exceptions.MissingParameter:
        if whole:
            raise
        command.make_context(name, list(arguments), resilient_parsing=True)
        return
    except click.exceptions.BadOptionUsage:
        if whole:
            raise
        check([name, *arguments[:-1]], whole)
        return
    values = context.params
    if command.name == "link":
        for option in ("settings", "uplink"):
            read_link(values.get(option) or (), "--set", "a link")
    else:
        read_scenario(values.get("settings") or (), values.get("base", "paper"))
    for option, known in KNOWN.items():
        wrong = {value for value in values.get(option) or () if not value.isupper()} - known
        if wrong:
            raise click.UsageError(f"{name}: {option} {wrong}")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Where the files are that commands name."""
    monkeypatch.chdir(tmp_path)
    for name in ("model.onnx", "profile.json", "chunks.npz", "before.png"):
        Path(name).touch()


@pytest.mark.parametrize(("arguments", "whole"), list(found()))
def test_quoted_command_is_taken(arguments, whole):
    check(arguments, whole)


@pytest.mark.parametrize(
    "command",
    [
        "measure --what halves",
        "measure --only haves",
        "nonsense",
        "bound --deadline four",
        "link --listen 8002 --to 127.0.0.1:8001 --set bandwith=1e6",
        "reproduce --item figure88",
    ],
)
def test_wrong_quotes_are_found(command):
    with pytest.raises((click.ClickException, ValueError)):
        check(command.split(), False)


def test_quotes_are_seen():
    """In each kind of place: a fence, a docstring's example, prose, a notebook."""
    seen = "".join(str(parameter.id) for parameter in found())
    for place in ("README.md: edgeinfer edge", "cli/cutting.py: edgeinfer cut", "docs/howto/serve.md: edgeinfer serve"):
        assert place in seen
    assert "notebooks/tiles.ipynb: edgeinfer measure" in seen
