"""JSON-line logs."""

from __future__ import annotations

import json
import os
from pathlib import Path

from swarm.logs import JsonLog, bound_text, timestamp


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


def test_a_plain_log_that_others_hold_open_is_cut_and_its_end_kept(tmp_path: Path) -> None:
    path = tmp_path / "stderr.log"
    assert not bound_text(path), "none yet"
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(fd, b"a" * 60)
        assert not bound_text(path, 60)
        os.write(fd, b"b" * 60)
        assert bound_text(path, 60)
        assert (tmp_path / "stderr.log.1").read_bytes() == b"b" * 60, "no more than it may be long"
        assert path.read_bytes() == b""
        os.write(fd, b"c")
        assert path.read_bytes() == b"c", "its writers go on at its new beginning"
    finally:
        os.close(fd)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["stderr.log", "stderr.log.1"]


def test_a_plain_log_is_cut_even_where_its_end_cannot_be_kept(tmp_path: Path) -> None:
    path = tmp_path / "stderr.log"
    path.write_bytes(b"a" * 100)
    (tmp_path / "stderr.log.1.part").mkdir()
    assert bound_text(path, 60)
    assert path.read_bytes() == b""
    link = tmp_path / "link"
    (tmp_path / "mine").write_bytes(b"a" * 100)
    link.symlink_to("mine")
    assert not bound_text(link, 60), "nobody's file is cut by way of a link"
