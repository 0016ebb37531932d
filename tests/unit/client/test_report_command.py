import json
from pathlib import Path
from typing import Any

import pytest
from trana.v1 import event_pb2
from unit.client.conftest import Trana

GOOD, WRONG_USAGE = 0, 2


def test_report_writes_a_page_over_what_was_there(trana: Trana, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text("before")
    result = trana("report", "iris", "-o", page)
    assert result.exit_code == GOOD
    assert page.read_text().startswith("<!doctype html>")
    assert result.stdout == f"{page}  {page.stat().st_size:,} bytes\n"
    document = json.loads(trana("-o", "json", "report", "iris", "-o", page).stdout)
    assert document == {"file": str(page), "size_bytes": page.stat().st_size}


def test_a_report_without_a_file_is_named_after_the_job(
    trana: Trana, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert trana("report", "jobs/iris").exit_code == GOOD
    assert [path.name for path in tmp_path.iterdir()] == ["iris.html"]
    assert trana("report", "iris", "-o", "-").stdout.startswith("<!doctype html>")


def test_a_report_of_a_job_that_runs_tells_how_things_are_now(trana: Trana, service: Any) -> None:
    service.allow(2)
    service.events[0] = event_pb2.Event(sequence=1, warning=event_pb2.Warning(message="too few samples"))
    page = trana("report", "iris", "-o", "-").stdout
    assert "RUNNING" in page
    assert "warning: too few samples" in page


def test_a_report_that_cannot_be_written_is_wrong_usage(trana: Trana, tmp_path: Path) -> None:
    for file in (tmp_path, tmp_path / "nowhere" / "report.html"):
        result = trana("report", "iris", "-o", file)
        assert result.exit_code == WRONG_USAGE
        assert f"{file} cannot be written" in result.stderr
    result = trana("report", "iris", "-o", "json")
    assert result.exit_code == WRONG_USAGE
    assert "trana get iris -o json" in " ".join(result.stderr.replace("│", " ").split())
