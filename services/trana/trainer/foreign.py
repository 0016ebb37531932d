"""Translates the errors of torch, of Arrow and of the user's code into ours, once, on their way out."""

import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.distributed as dist

from trana.trainer.code import code_folder
from trana.trainer.errors import (
    OutOfMemoryError,
    PeerLostError,
    TrainingError,
    UnexpectedError,
    UserCodeError,
    UserError,
)

# torch raises plain RuntimeErrors for these; the texts are those of its CPU allocator and of Gloo.
_MEMORY = ("DefaultCPUAllocator", "can't allocate memory", "not enough memory")
_PEER = ("gloo", "Connection closed by peer", "Connection reset by peer", "Timed out waiting", "Broken pipe", "NCCL")

# Where a package has another name than the module that it is imported as.
_PACKAGES = {
    "PIL": "pillow",
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python",
    "dotenv": "python-dotenv",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}
_MAX_FRAMES = 12
# What torch's losses say where output and target have unequal shapes, some as a warning.
_UNEQUAL_SHAPES = re.compile(r"^Using a target size \(torch\.Size\(\[([\d, ]*)\]\)\)")


@contextmanager
def translated(code: Path | None = None) -> Iterator[None]:
    """Lets nothing but TrainingErrors out; the original stays attached as their cause, but for errors of user code.

    Args:
        code: The folder of the user's code, where there is any.
    """
    try:
        yield
    except TrainingError as error:
        if code is not None and not hasattr(error, "__notes__"):
            _add_frames(error, _user_frames(error, code))
        raise
    except Exception as error:  # noqa: BLE001 - it is raised again, translated
        translation = translate(error, code)
        raise translation from (None if isinstance(translation, UserError) else error)
    except (SystemExit, KeyboardInterrupt) as error:
        if code is None:
            raise
        raise _of_user(error, code) from None


def translate(error: Exception, code: Path | None = None) -> TrainingError:
    """Returns what a foreign error means; see `translated`."""
    text = f"{type(error).__name__}: {error}"
    if is_out_of_memory(error):
        return OutOfMemoryError(
            f"a worker ran out of memory; try a smaller training.global_batch_size, or more workers ({text})"
        )
    if isinstance(error, dist.DistError) or _has(error, _PEER):
        return PeerLostError(f"lost another worker of the group, or never met it ({text})")
    if code is not None and (isinstance(error, SyntaxError) or _user_frames(error, code)):
        return _of_user(error, code)
    frames = traceback.extract_tb(error.__traceback__)
    where = f", in {frames[-1].name} at line {frames[-1].lineno} of {frames[-1].filename}" if frames else ""
    unexpected = UnexpectedError(f"the trainer failed: {text}{where}")
    # A fault of ours: here alone are our own frames of use.
    unexpected.add_note("".join(traceback.format_exception(error)))
    return unexpected


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error means that no memory was left."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or _has(error, _MEMORY)


def has_user_frames(error: Exception) -> bool:
    """Whether an error came out of the user's code that is open."""
    code = code_folder()
    return code is not None and bool(_user_frames(error, code))


def is_peer_lost(error: BaseException) -> bool:
    """Whether an error means that another rank has gone."""
    return isinstance(error, Exception) and isinstance(translate(error), PeerLostError)


def _of_user(error: BaseException, code: Path) -> UserError:
    """Describes an error of the user's code, with the user's frames alone: the others are ours and the libraries'."""
    frames = _user_frames(error, code)
    at = f" in {frames[-1].name} at line {frames[-1].lineno} of {frames[-1].filename}" if frames else ""
    if isinstance(error, ModuleNotFoundError) and error.name:
        return UserError(_missing(error.name, frames[-1].filename if frames else "the code", code))
    if isinstance(error, SyntaxError) and error.filename is not None:
        line = f": {error.text.strip()}" if error.text else ""
        return UserError(f"{_within(error.filename, code)}, line {error.lineno}: {error.msg}{line}")
    if isinstance(error, SystemExit):
        advice = "which ends the worker before its training is over: return from the function instead"
        result = UserCodeError(f"called sys.exit({error.code!r}){at}, {advice}")
    else:
        text = str(error).replace(f"{code}/", "")
        said = f"{type(error).__name__}: {text}{_advice(text)}" if text else type(error).__name__
        result = UserCodeError(f"{said},{at}" if at else said)
    _add_frames(result, frames)
    return result


def _add_frames(error: TrainingError, frames: list[traceback.FrameSummary]) -> None:
    if frames:
        error.add_note("".join(["in your code:\n", *traceback.StackSummary.from_list(frames[-_MAX_FRAMES:]).format()]))


def _advice(text: str) -> str:
    """Says what shapes a loss wants, where an error is about them."""
    unequal = _UNEQUAL_SHAPES.match(text)
    if unequal is None:
        return ""
    _, *values = unequal[1].split(", ")
    here = f", here (samples, {', '.join(values)})" if values else ""
    return f" Targets that are numbers have shape (samples, values){here}; give the output the same shape"


def _missing(module: str, file: str, code: Path) -> str:
    top = module.partition(".")[0]
    if (code / top).is_dir() or (code / f"{top}.py").is_file():
        return f"{file} imports {module}, which the code does not have"
    package = _PACKAGES.get(top, top)
    return (
        f"{file} imports {top}, which the workers do not have; add it to the job, code: {{pip: [{package}]}}, "
        f"or where the workers run: pip install {package}"
    )


def _user_frames(error: BaseException, code: Path) -> list[traceback.FrameSummary]:
    """Returns the frames of a traceback that are in the user's code, their files named as in the bundle."""
    return [
        traceback.FrameSummary(_within(frame.filename, code), frame.lineno, frame.name, line=frame.line)
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).is_relative_to(code)
    ]


def _within(filename: str, code: Path) -> str:
    path = Path(filename)
    return str(path.relative_to(code)) if path.is_relative_to(code) else filename


def _has(error: Exception, texts: tuple[str, ...]) -> bool:
    return isinstance(error, RuntimeError) and any(text in str(error) for text in texts)
