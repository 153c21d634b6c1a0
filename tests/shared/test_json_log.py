"""JSON-line logs."""

from __future__ import annotations

import json
from pathlib import Path

from swarm.logs import JsonLog, timestamp


def test_each_entry_is_one_line_of_json(tmp_path: Path) -> None:
    log = JsonLog(tmp_path / "deep" / "x.log")
    assert log.write("said", text="two\nlines", path=tmp_path)
    assert log.write("done", n=1)
    lines = [json.loads(line) for line in (tmp_path / "deep" / "x.log").read_text().splitlines()]
    assert [line["kind"] for line in lines] == ["said", "done"]
    assert lines[0]["text"] == "two\nlines"
    assert lines[0]["ts"].endswith("Z")


def test_a_full_log_is_rotated_and_only_so_many_are_kept(tmp_path: Path) -> None:
    log = JsonLog(tmp_path / "x.log", max_bytes=200, keep=2)
    for n in range(30):
        assert log.write("n", n=n)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["x.log", "x.log.1", "x.log.2"]
    assert all(path.stat().st_size <= 200 for path in tmp_path.iterdir())
    assert json.loads((tmp_path / "x.log").read_text().splitlines()[-1])["n"] == 29


def test_a_log_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert JsonLog(tmp_path / "file" / "x.log").write("n") is False


def test_times_are_rfc_3339_in_utc() -> None:
    assert timestamp(0) == "1970-01-01T00:00:00.000Z"
    assert timestamp(1795175404.125) == "2026-11-20T11:50:04.125Z"
