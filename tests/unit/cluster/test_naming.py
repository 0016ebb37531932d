from __future__ import annotations

import stat
from pathlib import Path

import pytest
from trana.jobs.cluster.installation import installation_of
from trana.jobs.cluster.naming import Names
from trana.jobs.domain.attempt import AttemptKey

KEY = AttemptKey("iris", 3)


def test_a_name_tells_the_installation_and_the_attempt() -> None:
    assert Names("a1b2c3d4").of(KEY) == "trana/a1b2c3d4/iris/3"


def test_only_names_of_the_same_installation_are_known_again() -> None:
    ours, theirs = Names("a1b2c3d4"), Names("a1b2c3d")
    names = [ours.of(KEY), theirs.of(AttemptKey("iris", 4)), "", "iris/3", "trana/iris/3", "trana/a1b2c3d4/iris/x"]
    assert ours.keys(names) == {KEY}


def test_an_installation_keeps_its_id_to_itself(tmp_path: Path) -> None:
    installation = installation_of(tmp_path)
    assert len(installation) >= 8
    assert int(installation, 16) >= 0
    assert installation_of(tmp_path) == installation
    (file,) = tmp_path.iterdir()
    assert file.name == "installation"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_two_installations_differ(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    assert installation_of(tmp_path) != installation_of(tmp_path / "other")


@pytest.mark.parametrize("content", ["", "a1b2", "no/number"])
def test_a_damaged_id_is_not_replaced(tmp_path: Path, content: str) -> None:
    (tmp_path / "installation").write_text(content)
    with pytest.raises(OSError, match="restore it"):
        installation_of(tmp_path)
    assert (tmp_path / "installation").read_text() == content
