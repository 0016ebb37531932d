"""Datasets in S3, behind the port of a real server process."""

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from integration.trainer.ranks import run_ranks
from PIL import Image
from pyarrow import fs, parquet
from trana.trainer.data.dataset import load
from trana.trainer.data.samples import Samples
from trana.trainer.data.streaming import Stream
from trana.trainer.errors import DataError, StorageError
from trana.trainer.preflight import check
from trana.v1 import training_pb2
from unit.trainer.specs import IRIS, make_spec

SERVER = str(Path(sys.executable).parent / "moto_server")
ROWS = 4000


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Host and port of an S3 server that holds the data."""
    # A file, for a pipe that nobody reads would fill up.
    log = tmp_path_factory.mktemp("s3") / "server.log"
    with log.open("w") as stderr, subprocess.Popen([SERVER, "-H", "127.0.0.1", "-p", "0"], stderr=stderr) as server:
        try:
            address = address_in(log)
            fill(fs.S3FileSystem(**login(address), allow_bucket_creation=True))
            yield address
        finally:
            server.kill()


def address_in(log: Path) -> str:
    deadline = time.monotonic() + 60
    while not (found := re.search(r"http://([0-9.:]+)", log.read_text())):
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)
    return found[1]


def login(address: str) -> dict[str, Any]:
    keys = {"access_key": "someone", "secret_key": "secret"}
    return {**keys, "region": "us-east-1", "scheme": "http", "endpoint_override": address}


def fill(store: fs.S3FileSystem) -> None:
    store.create_dir("data")
    with store.open_output_stream("data/iris.csv") as file:
        file.write(IRIS.read_bytes())
    draw = np.random.default_rng(5)
    columns = {f"x{number}": draw.normal(size=ROWS) for number in range(4)} | {"y": draw.choice(["p", "q", "r"], ROWS)}
    for name in ("large", "passing"):
        with store.open_output_stream(f"data/{name}.parquet") as file:
            parquet.write_table(pa.table(columns), file, row_group_size=200)
    for name, shade in {"dark": 10, "light": 250}.items():
        for number in range(5):
            with store.open_output_stream(f"data/shades/{name}/{number}.png") as file:
                Image.new("L", (8, 8), shade).save(file, format="PNG")


def uri(endpoint: str, path: str) -> str:
    return f"s3://someone:secret@data/{path}?scheme=http&endpoint_override={endpoint}&region=us-east-1"


@pytest.fixture
def _environment(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"ENDPOINT_URL": f"http://{endpoint}", "ACCESS_KEY_ID": "someone", "SECRET_ACCESS_KEY": "secret"}
    for name, value in {**settings, "DEFAULT_REGION": "us-east-1", "EC2_METADATA_DISABLED": "true"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)


def streamed(endpoint: str, name: str = "large") -> training_pb2.TrainingSpec:
    spec = make_spec()
    spec.dataset.parquet.uri = uri(endpoint, f"{name}.parquet")
    spec.dataset.target = "y"
    spec.dataset.memory_limit_bytes = 80_000
    spec.dataset.preprocessing.scaling = training_pb2.SCALING_STANDARDIZE
    return spec


@pytest.mark.usefixtures("_environment")
def test_environment_says_where_the_store_is() -> None:
    here, there = load(make_spec()), load(make_spec("s3://data/iris.csv"))
    assert isinstance(here.train, Samples)
    assert isinstance(there.train, Samples)
    assert there.train.features.tolist() == here.train.features.tolist()
    assert there.classes == here.classes


def test_uri_says_where_the_store_is(endpoint: str) -> None:
    assert load(make_spec(uri(endpoint, "iris.csv"))).classes == ("setosa", "versicolor", "virginica")


def test_absent_object_is_named_without_the_key(endpoint: str) -> None:
    with pytest.raises(DataError, match=r"^file s3://data/absent\.csv does not exist, as the workers see it$"):
        load(make_spec(uri(endpoint, "absent.csv")))


def test_images_are_read_from_the_store(endpoint: str) -> None:
    spec = make_spec(network={"layers": [{"flatten": {}}, {"linear": {"outFeatures": 2}}]})
    spec.dataset.ClearField("target")
    spec.dataset.images.uri = uri(endpoint, "shades")
    spec.dataset.images.height = spec.dataset.images.width = 2
    dataset = load(spec)
    assert isinstance(dataset.train, Samples)
    assert dataset.classes == ("dark", "light")
    assert {float(pixels.max()) > 0.5 for pixels in dataset.train.features[dataset.train.targets == 1]} == {True}


def test_parquet_is_streamed_from_the_store_alike_for_any_number_of_workers(endpoint: str, tmp_path: Path) -> None:
    spec = streamed(endpoint)
    assert isinstance(load(spec).train, Stream)
    check(spec.SerializeToString())
    alone, group = (run_ranks(spec, tmp_path / str(count), world_size=count) for count in (1, 2))
    assert not {**alone.errors, **group.errors}
    curves = [[(epoch.train_loss, epoch.val_loss) for epoch in outcome.epochs] for outcome in (alone, group)]
    assert len(curves[0]) == 3
    np.testing.assert_allclose(curves[1], curves[0], rtol=1e-5)


def test_store_that_fails_later_is_no_fault_of_the_data(endpoint: str) -> None:
    part = load(streamed(endpoint, "passing")).train
    assert isinstance(part, Stream)
    fs.S3FileSystem(**login(endpoint)).delete_file("data/passing.parquet")
    with pytest.raises(StorageError, match=r"s3://data/passing\.parquet .*\(it could be read before\)"):
        part.check(most_bytes=10**9)
