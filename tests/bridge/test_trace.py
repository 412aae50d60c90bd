import pytest

from edgeinfer.bridge.wire.trace import KEYS, Trace, draw_trace, read_trace


@pytest.fixture
def files(tmp_path):
    """A request as a device and an edge saw it."""
    paths = tmp_path / "device.jsonl", tmp_path / "edge.jsonl"
    with Trace(paths[0], "device") as device, Trace(paths[1], "edge") as edge:
        device.message("TaskRequest", "sent", 80, "a", wish=[1, 2])
        edge.message("TaskRequest", "received", 80, "a")
        edge.message("StepAllocation", "sent", 40, "a")
        edge.stage("prior", 1.0, 1.5, "b", batch=2)
        device.message("StepAllocation", "received", 40, "a")
        device.record("event", "done", request="a")
    return paths


def test_records_have_the_stated_form(files):
    records = read_trace(*files)
    assert all(tuple(record)[: len(KEYS)] == KEYS for record in records)
    assert [r["time"] for r in records] == sorted(r["time"] for r in records)
    stage = next(r for r in records if r["kind"] == "stage")
    assert (stage["time"], stage["duration"], stage["batch"]) == (1.0, 0.5, 2)
    starts = [r for r in records if r["name"] == "start"]
    assert len(starts) == 2 and len({r["clock"] for r in starts}) == 1


def test_a_line_cut_by_a_kill_is_left_out(files):
    text = files[0].read_bytes()
    whole = read_trace(files[0])
    files[0].write_bytes(text[:-5])
    assert read_trace(files[0]) == whole[:-1]


def test_a_process_that_starts_again_goes_on_behind_the_last_whole_line(files, tmp_path):
    """The half of a line and the next record were one line, and no record of the file was read."""
    text, whole = files[0].read_bytes(), read_trace(files[0])
    for kept in (text[:-5], text[: text.rindex(b"\n", 0, -1) + 3], text):
        files[0].write_bytes(kept)
        Trace(files[0], "device").close()
        records = read_trace(files[0])
        assert records[:-1] == (whole if kept == text else whole[:-1]) and records[-1]["name"] == "start"
    other = tmp_path / "notes.txt"
    other.write_text("no trace")
    Trace(other, "device").close()
    assert other.read_text().startswith("no trace")


def test_errors_name_file_and_line(files):
    with open(files[0], "ab") as file:
        file.write(b'{"time": 1}\n')
    with pytest.raises(ValueError, match=r"device.jsonl, line 5: must have time, process"):
        read_trace(files[0])
    with pytest.raises(ValueError, match="at least one file"):
        read_trace()


def test_picture(files):
    figure = draw_trace(read_trace(*files), "a")
    texts = " ".join(text.get_text() for text in figure.axes[0].texts)
    assert "TaskRequest: 80 B" in texts and "StepAllocation: 40 B" in texts
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["device", "edge"]
    with pytest.raises(ValueError, match="request = 'none'"):
        draw_trace(read_trace(*files), "none")


def test_nothing_is_written_without_a_path_or_after_close(tmp_path):
    Trace(None, "edge").record("event", "x")
    trace = Trace(tmp_path / "t", "edge")
    trace.close()
    trace.record("event", "x")
    assert len(read_trace(tmp_path / "t")) == 1
