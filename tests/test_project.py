"""The files around the code say the same of it: version, changelog, citation, names on the site."""

import re
import tomllib
from pathlib import Path

import pytest

import edgeinfer

ROOT = Path(__file__).parent.parent


def changelog():
    """The changelog's versions, each with its date and its kinds of change."""
    text = (ROOT / "CHANGELOG.md").read_text()
    parts = re.split(r"^## \[(.+?)\](?: - (\d{4}-\d{2}-\d{2}))?$", text, flags=re.MULTILINE)
    return {name: (date, kinds) for name, date, kinds in zip(parts[1::3], parts[2::3], parts[3::3], strict=True)}


def test_the_changelog_has_its_form():
    versions = changelog()
    assert next(iter(versions)) == "Unreleased"
    for name, (date, text) in versions.items():
        assert (date is None) == (name == "Unreleased"), name
        kinds = re.findall(r"^### (.+)$", text, flags=re.MULTILINE)
        assert set(kinds) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}, name
        assert len(kinds) == len(set(kinds)), name


def test_the_version_is_one():
    said = dict(re.findall(r"^(version|date-released): (.+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE))
    assert said["version"] == edgeinfer.__version__
    assert said["date-released"] == changelog()[edgeinfer.__version__][0]


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


@pytest.mark.parametrize("path", sorted((ROOT / "docs").rglob("*.md")), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_site_names_what_exists(path):
    """Every `ei.name`, `edgeinfer.name` and file in the code spans of a page is there."""
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)
    for span in re.findall(r"`([^`\n]+)`", text):
        name = re.fullmatch(r"(?:ei|edgeinfer)((?:\.[a-z_]\w*)+)(?:\(.*\))?", span, re.IGNORECASE)
        if name is not None and "NAME" not in span:
            value = edgeinfer
            for part in name[1].strip(".").split("."):
                value = getattr(value, part)
        if re.fullmatch(r"(?:edgeinfer|csrc|tests|benchmarks|notebooks|scripts)/[\w./]*", span):
            assert (ROOT / span).exists(), span


def test_what_is_checked_before_a_commit_is_what_lint_checks():
    with open(ROOT / "pyproject.toml", "rb") as file:
        pinned = set(tomllib.load(file)["project"]["optional-dependencies"]["lint"])
    hooks = re.findall(r"[\w-]+==[\w.]+", (ROOT / ".pre-commit-config.yaml").read_text())
    assert set(hooks) == pinned and all("==" in name for name in pinned)
