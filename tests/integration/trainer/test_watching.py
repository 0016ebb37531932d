"""Modules of the user's that hang in the service's loop."""

from pathlib import Path

import pytest
from trana.trainer.code import opened
from trana.trainer.errors import UserError
from trana.trainer.train import train
from unit.trainer.coding import module_spec, write_code
from unit.trainer.training import place

MODULE = """
import time
from torch import nn

class Net(nn.Module):
    def __init__(self, mode):
        super().__init__()
        self.layer, self.mode, self.passes = nn.Linear(4, 3), mode, 0

    def forward(self, features):
        if self.training == (self.mode == "train"):
            self.passes += 1
            if self.passes < 5:
                time.sleep(0.4)
            else:
                time.sleep(60)
        return self.layer(features)
"""


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_module_that_hangs_is_given_up_and_a_slow_one_is_not(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], mode: str
) -> None:
    code = write_code(tmp_path / "code", own=MODULE)
    spec = module_spec("own:Net", {"mode": mode})
    here = place(tmp_path / "job", code=code)
    with (
        opened(code),
        # Four passes take longer than the patience, each by itself does not.
        pytest.raises(UserError, match=r"no step for 1.2 s; it was at own.py:16, in forward"),
    ):
        train(spec, lambda report: None, here, patience_seconds=1.2)
    assert "time.sleep(60)" in capfd.readouterr().err
