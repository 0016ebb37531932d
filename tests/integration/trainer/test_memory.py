from pathlib import Path

from benchmarks import streaming


def test_dataset_of_four_times_the_limit_is_streamed_within_it(tmp_path: Path) -> None:
    limit_bytes = 2**25
    path = streaming.write(tmp_path / "data.parquet", groups=4 * limit_bytes // streaming.GROUP_BYTES)
    assert streaming.run("trana", path, limit_bytes=limit_bytes)["grown_bytes"] < limit_bytes
    # What reads ahead as far as it may does not: the figure is one that can be wrong.
    assert streaming.run("plain", path)["grown_bytes"] > limit_bytes
