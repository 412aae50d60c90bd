"""Runs that are kept when they are done, and for what they are taken up."""

import pytest

from edgeinfer.paper.measured import runs


def made(folder, about, counted):
    with runs.runs("tally", folder, about, 2, stored=folder / "kept", progress=False) as course:
        return [course.one({"run": k}, lambda k=k: counted.append(k) or {"value": 10 * k})["value"] for k in range(2)]


def test_runs_are_of_one_machine_and_one_version(tmp_path, monkeypatch):
    counted = []
    for _ in range(2):
        assert made(tmp_path, {"seed": 1}, counted) == [0, 10] and counted == [0, 1]
    with pytest.raises(ValueError, match=r"holds another measurement of tally: seed \(1 there, 2 here\)"):
        made(tmp_path, {"seed": 2}, counted)
    monkeypatch.setattr(runs, "machine", lambda: {"processor": "another one"})
    with pytest.raises(ValueError, match=r"holds another measurement of tally: processor \(.* there, another one here"):
        made(tmp_path, {"seed": 1}, counted)
    monkeypatch.undo()
    monkeypatch.setattr(runs, "__version__", "0")
    with pytest.raises(ValueError, match=r"holds another measurement of tally: edgeinfer \(.* there, 0 here\)"):
        made(tmp_path, {"seed": 1}, counted)
