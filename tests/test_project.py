"""The files around the code say the same of it: version, changelog, citation, names on the site."""

import re
from pathlib import Path

import pytest

import edgeinfer

ROOT = Path(__file__).parent.parent


def changelog():
    """The changelog's versions, each with its kinds of change."""
    text = (ROOT / "CHANGELOG.md").read_text()
    parts = re.split(r"^## \[(.+?)\](?: - \d{4}-\d{2}-\d{2})?$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_the_changelog_has_its_form():
    versions = changelog()
    assert next(iter(versions)) == "Unreleased"
    for name, text in versions.items():
        kinds = re.findall(r"^### (.+)$", text, flags=re.MULTILINE)
        assert set(kinds) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}, name
        assert len(kinds) == len(set(kinds)), name


def test_the_version_is_one():
    assert edgeinfer.__version__ in changelog()
    assert re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)[1] == edgeinfer.__version__


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
