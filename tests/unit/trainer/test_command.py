import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from trana.trainer.__main__ import Printer, main
from trana.v1 import fit_pb2, report_pb2
from unit.trainer.specs import write_csv

JOB = """
training:
  dataset:
    csv: {uri: numbers.csv}
    target: y
    split: {fractions: {validation: 0.25, test: 0.25}}
  network: {layers: [{linear: {out_features: 1}}]}
  loss: {mse: {}}
  optimizer: {sgd: {learning_rate: 0.01}}
  epochs: 2
  global_batch_size: 8
resources: {num_workers: 1}
"""


@pytest.fixture(autouse=True)
def _signals_as_before() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def job(tmp_path: Path) -> Path:
    write_csv(tmp_path / "numbers.csv", "a,y", *(f"{row / 20},{row / 10}" for row in range(20)))
    path = tmp_path / "job.yaml"
    path.write_text(JOB)
    return path


def test_each_epoch_and_the_result_are_a_line(job: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(job), "--folder", str(tmp_path / "kept")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "2 parameters; 10 samples train, 5 validate, 5 test"
    assert [line.split()[1] for line in lines[1:3]] == ["1/2", "2/2"]
    assert lines[3] == "all epochs are done"
    assert lines[4].startswith("best validation loss: ")
    assert lines[5].startswith("test_loss: ")
    assert lines[6].startswith("fit: UNDETERMINED (confidence ")
    assert lines[-1] == f"checkpoint: {tmp_path / 'kept' / 'checkpoints' / 'best'}"


def test_verdict_is_told_when_it_changes_and_at_the_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tell = Printer(3, tmp_path, attempt=1)
    good = fit_pb2.FitVerdict(label=fit_pb2.FIT_LABEL_GOOD_FIT, epoch=2, confidence=0.8099)
    over = fit_pb2.FitVerdict(label=fit_pb2.FIT_LABEL_OVERFITTING, epoch=3, onset_epoch=2, confidence=0.9549)
    over.evidence.extend(["It rose.", "It fell."])
    over.advice.add(text="Get more data.")
    over.advice.add(text="Get less network.")
    begun = fit_pb2.FitVerdict(label=fit_pb2.FIT_LABEL_UNDETERMINED, epoch=1)
    for report in [report_pb2.Report(fit=fit) for fit in (begun, good, good, over)]:
        tell(report.SerializeToString())
    ended = report_pb2.TrainingResult(stop_reason=report_pb2.STOP_REASON_VERDICT, best_epoch=1, best_val_loss=0.5)
    tell(report_pb2.Report(result=ended).SerializeToString())
    assert capsys.readouterr().out.splitlines()[:-1] == [
        "fit: GOOD_FIT (confidence 0.80, as of epoch 2)",
        "fit: OVERFITTING since epoch 2 (confidence 0.95, as of epoch 3)",
        "stopped by the verdict: the network overfits",
        "best validation loss: 0.5 (epoch 1)",
        "fit: OVERFITTING since epoch 2 (confidence 0.95, as of epoch 3). It rose. It fell.",
        "advice: Get more data.",
    ]


def test_folder_is_named_after_the_job(job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["job.yaml"]) == 0
    # The files of many jobs are called so.
    assert Path(".trana/trainer", tmp_path.name, "checkpoints/best").is_dir()
    assert main([str(job.rename(tmp_path / "numbers.yaml"))]) == 0
    assert Path(".trana/trainer/numbers/checkpoints/best").is_dir()


def test_checkpoints_of_another_spec_are_told_with_the_flags_that_help(
    job: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(job), "--folder", str(tmp_path / "kept")]
    main(arguments)
    job.write_text(JOB.replace("0.01", "0.02"))
    assert main(arguments) == 1
    told = capsys.readouterr().err
    assert "holds checkpoints of another spec" in told
    assert "--fresh" in told
    assert "--folder" in told


def test_training_that_had_ended_is_not_trained_again(
    job: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(job), "--folder", str(tmp_path / "kept")]
    main(arguments)
    first = capsys.readouterr().out.splitlines()
    assert main(arguments) == 0
    assert capsys.readouterr().out.splitlines() == first[3:]


def test_fresh_removes_the_checkpoints_and_nothing_else(
    job: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(job), "--folder", str(tmp_path / "kept")]
    main(arguments)
    (tmp_path / "kept" / "notes.txt").write_text("mine")
    capsys.readouterr()
    assert main([*arguments, "--fresh"]) == 0
    assert "epoch 1/2" in capsys.readouterr().out
    assert (tmp_path / "kept" / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("epochs: 2", "epochs: 0", "training.epochs"),
        ("epochs: 2", "epochz: 2", "epochz"),
        ("training:", "[", "job.yaml"),
    ],
)
def test_wrong_job_is_told_field_by_field(
    job: Path, before: str, after: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    job.write_text(JOB.replace(before, after))
    assert main([str(job)]) == 2
    assert message in capsys.readouterr().err


def test_absent_job_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none.yaml")]) == 2
    assert "none.yaml" in capsys.readouterr().err


def test_wrong_data_end_with_their_place(job: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (tmp_path / "numbers.csv").open("a") as file:
        file.write("1,many\n")
    assert main([str(job), "--folder", str(tmp_path / "kept")]) == 1
    message = f"worker 0: file {tmp_path}/numbers.csv, row 22, column y: 'many' is not a number"
    assert capsys.readouterr().err == f"{message}; for a target of classes use cross_entropy or bce\n"


def test_help_shows_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "torchrun --nproc-per-node 2 -m trana.trainer deploy/examples/iris.yaml" in capsys.readouterr().out
