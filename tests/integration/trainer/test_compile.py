"""torch.compile for the steps: slow to begin with, so that nothing else here does so."""

import subprocess
import sys
from pathlib import Path

import pytest
from torch._dynamo.utils import counters
from unit.trainer.specs import make_spec
from unit.trainer.training import run


# torch's compiler uses what torch itself has deprecated.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.timeout(240)
def test_compiled_steps_give_the_same_curve_from_a_single_compilation(tmp_path: Path) -> None:
    # 90 samples in steps of 7 and of 6.
    plain = run(make_spec(globalBatchSize=7), tmp_path / "plain")
    counters.clear()
    compiled = run(make_spec(globalBatchSize=7, compile=True), tmp_path / "compiled")
    losses = [epoch.val_loss for epoch in compiled.epochs]
    assert losses == pytest.approx([epoch.val_loss for epoch in plain.epochs], rel=1e-5)
    assert counters["stats"]["unique_graphs"] == 1


def test_place_without_a_compiler_is_told(tmp_path: Path) -> None:
    job = make_spec(epochs=1, compile=True)
    (tmp_path / "spec").write_bytes(job.SerializeToString())
    # The compiler looks for its own once in a process.
    script = f"""
from pathlib import Path
from trana.trainer.errors import UserError
from trana.v1 import training_pb2
from unit.trainer.training import run
folder = Path({str(tmp_path)!r})
try:
    run(training_pb2.TrainingSpec.FromString((folder / "spec").read_bytes()), folder / "job")
except UserError as error:
    print(error)
"""
    environment = {
        "CXX": "/no/compiler",
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "TORCHINDUCTOR_CACHE_DIR": str(tmp_path),
    }
    told = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert "install a C++ compiler" in told.stdout
