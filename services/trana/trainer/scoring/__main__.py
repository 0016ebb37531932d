"""Evaluates, predicts with and exports a checkpoint: `python -m trana.trainer.scoring evaluate CHECKPOINT DATA`."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from trana.trainer.errors import TrainingError, UserError

if TYPE_CHECKING:
    from trana.trainer.place import Place
    from trana.trainer.scoring.checkpoint import Trained

GOOD, FAILED, INTERRUPTED = 0, 1, 130
_FORMATS = {"onnx": ".onnx", "torchscript": ".pt", "safetensors": ".safetensors"}
_STANDARD_OUTPUT = "-"
_PREDICTION_SUFFIXES = (".csv", ".parquet")


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns 0 when it worked, 1 where checkpoint or data do not allow it; exits with 2 if misused.

    Results are on standard output, errors on standard error.
    """
    options = _parse(arguments)
    # Imported late, here and below: torch takes a second that --help and wrong usage need not wait for.
    from trana.trainer.foreign import translated
    from trana.trainer.scoring.checkpoint import open_checkpoint

    try:
        with translated():
            options.run(open_checkpoint(options.checkpoint, job=options.job), options)
    except TrainingError as error:
        _tell(error, as_json=options.json)
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    return GOOD


def _evaluate(trained: "Trained", options: argparse.Namespace) -> None:
    from trana.trainer.scoring.evaluating import evaluate

    place = _place(trained, options.device)
    found = evaluate(trained, options.data, place, allow_code=options.allow_code)
    if options.json:
        _say(json.dumps(found))
        return
    width = max(len(name) for name in found)
    for name, value in found.items():
        _say(f"{name.ljust(width)}  {value!r}")


def _predict(trained: "Trained", options: argparse.Namespace) -> None:
    from trana.trainer.scoring.predicting import predict, write

    place = _place(trained, options.device)
    table = predict(trained, options.data, place, allow_code=options.allow_code)
    to = options.to if options.to == _STANDARD_OUTPUT else str(Path(options.to).absolute())
    write(table, to)
    if to == _STANDARD_OUTPUT:
        return
    number = table.num_rows
    said = f"{number:,} {'prediction' if number == 1 else 'predictions'} in {to}"
    _say(json.dumps({"path": to, "n": number}) if options.json else said)


def _export(trained: "Trained", options: argparse.Namespace) -> None:
    from trana.trainer.scoring.exporting import export

    to: Path = options.to or Path(f"{options.checkpoint.name}{_FORMATS[options.format]}")
    exported = export(trained, options.format, to.absolute(), allow_code=options.allow_code)
    if options.json:
        about = {"format": exported.format, "takes": exported.takes, "gives": exported.gives}
        about["preprocessing"] = "" if exported.preprocessing is None else str(exported.preprocessing)
        _say(json.dumps({"path": str(exported.path)} | about))
        return
    for line in (exported.path, exported.takes, exported.gives):
        if line:
            _say(f"{line}")


def _place(trained: "Trained", device: str) -> "Place":
    import torch

    from trana.trainer.place import Place

    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("torch sees no GPU on this machine; leave out --device cuda")
    return Place(
        rank=0,
        world_size=1,
        device=torch.device(device),
        folder=trained.folder,
        attempt=1,
        should_stop=lambda: False,
    )


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m trana.trainer.scoring", description="Use a checkpoint.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, run in (("evaluate", _evaluate), ("predict", _predict), ("export", _export)):
        command = commands.add_parser(name)
        command.set_defaults(run=run)
        command.add_argument("checkpoint", type=lambda text: Path(text).absolute(), help="its folder, or its job's")
        command.add_argument("--job", default="", help="the job that errors name, rather than the folder")
        if run is _export:
            command.add_argument("--format", choices=_FORMATS, required=True)
            command.add_argument("--to", type=Path, help="the file; named after the checkpoint where unset")
        else:
            command.add_argument("data", type=_uri, help="path or URI of a file in a format that Trana reads")
            command.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
        if run is _predict:
            command.add_argument(
                "--to", type=_prediction_file, default=_STANDARD_OUTPUT, help="FILE.csv, FILE.parquet or -"
            )
        command.add_argument("--allow-code", action="store_true", help="let the code in the checkpoint run")
        command.add_argument("--json", action="store_true", help="results and errors as JSON")
    return parser.parse_args(arguments)


def _uri(text: str) -> str:
    """Makes a URI of a path; before the user's code changes the working directory."""
    return text if "://" in text else Path(text).expanduser().absolute().as_uri()


def _prediction_file(text: str) -> str:
    if text != _STANDARD_OUTPUT and not text.lower().endswith(_PREDICTION_SUFFIXES):
        raise argparse.ArgumentTypeError(f"must end in {' or '.join(_PREDICTION_SUFFIXES)}, or be -, not {text!r}")
    return text


def _tell(error: TrainingError, *, as_json: bool) -> None:
    message = "\n".join([str(error), *getattr(error, "__notes__", [])])
    document = {"error": {"code": type(error).__name__, "message": message}}
    _say(json.dumps(document) if as_json else f"trana: {message}", sys.stderr)


def _say(text: str, stream: TextIO | None = None) -> None:
    print(text, file=stream, flush=True)


if __name__ == "__main__":
    sys.exit(main())
