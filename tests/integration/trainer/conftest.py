from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from integration.trainer.flowers import write_flowers


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    write_flowers(folder / "train.csv", 120, seed=0)
    write_flowers(folder / "validation.csv", 70, seed=1)
    write_flowers(folder / "raw.csv", 30, seed=2, target=False)
    return folder
