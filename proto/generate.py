"""Generates services/trana/v1 and services/buf from the contract, and checks that they are up to date.

python proto/generate.py              write the generated code
python proto/generate.py --check      exit 1 where the committed code differs from what would be written
python proto/generate.py --lint       buf lint, and buf breaking against proto/baseline.binpb
python proto/generate.py --baseline   make the contract as it is the one that later changes must not break
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import grpc_tools
from google.protobuf import (
    descriptor_pb2,
    duration_pb2,
    field_mask_pb2,
    timestamp_pb2,
)

PROTO = Path(__file__).resolve().parent
SERVICES = PROTO.parent / "services"
BASELINE = PROTO / "baseline.binpb"
GENERATED = ("trana/v1", "buf/validate")
WELL_KNOWN = Path(grpc_tools.__file__).parent / "_proto"
# The plugins and buf are programs of the environment that runs this.
ENVIRONMENT = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def main() -> int:
    """Runs what the command line asks for; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    action = parser.add_mutually_exclusive_group()
    for name in ("check", "lint", "baseline"):
        action.add_argument(f"--{name}", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        if asked.check:
            return check(work)
        if asked.lint:
            return lint(work)
        if asked.baseline:
            shutil.copyfile(image(work), BASELINE)
            return 0
        generate(SERVICES, work)
    return 0


def sources() -> list[str]:
    """Names of the contract's files, as protoc wants them."""
    return sorted(str(path.relative_to(PROTO)) for path in PROTO.glob("trana/v1/*.proto"))


def validate_descriptor(work: Path) -> Path:
    """Writes the descriptor of buf/validate/validate.proto and returns its path.

    protovalidate's wheel ships the descriptor and no .proto file; this is the one place that reads that private
    module of it. Its dependencies go along, for protoc looks up none of them elsewhere.
    """
    from protovalidate._gen.buf.validate import validate_pb

    files = descriptor_pb2.FileDescriptorSet()
    for module in (descriptor_pb2, duration_pb2, field_mask_pb2, timestamp_pb2):
        module.DESCRIPTOR.CopyToProto(files.file.add())
    files.file.add().ParseFromString(validate_pb.desc().proto.to_binary())
    path = work / "validate.binpb"
    path.write_bytes(files.SerializeToString())
    return path


def protoc(*arguments: str, work: Path) -> None:
    """Runs protoc; exits with its code where it fails."""
    command = [sys.executable, "-m", "grpc_tools.protoc", f"--descriptor_set_in={validate_descriptor(work)}"]
    subprocess.run([*command, f"-I{PROTO}", f"-I{WELL_KNOWN}", *arguments], check=True, env=ENVIRONMENT)


def generate(target: Path, work: Path) -> None:
    """Writes the messages, their types and the service's stubs below `target`."""
    for room in GENERATED:
        folder = target / room
        folder.mkdir(parents=True, exist_ok=True)
        for old in [*folder.glob("*_pb2*.py"), *folder.glob("*_pb2*.pyi")]:
            old.unlink()
        (folder / "__init__.py").touch()
    messages = [*sources(), "buf/validate/validate.proto"]
    protoc(f"--python_out={target}", f"--mypy_out=quiet:{target}", *messages, work=work)
    services = [name for name in sources() if name.endswith("_service.proto")]
    protoc(f"--grpc_python_out={target}", f"--mypy_grpc_out=quiet:{target}", *services, work=work)


def check(work: Path) -> int:
    """Compares the committed code with what the contract gives; 1 where they differ."""
    generate(work / "fresh", work)
    stale = []
    for room in GENERATED:
        fresh = {path.name: path.read_bytes() for path in (work / "fresh" / room).iterdir()}
        kept = {path.name: path.read_bytes() for path in (SERVICES / room).glob("*.py*")}
        stale += [f"{room}/{name}" for name in fresh.keys() | kept.keys() if fresh.get(name) != kept.get(name)]
    for name in sorted(stale):
        print(f"services/{name} differs from the contract: run `make proto` and commit", file=sys.stderr)
    return 1 if stale else 0


def image(work: Path) -> Path:
    """Compiles the contract into one file of descriptors and returns its path."""
    path = work / "image.binpb"
    protoc("--include_imports", "--include_source_info", f"--descriptor_set_out={path}", *sources(), work=work)
    return path


def lint(work: Path) -> int:
    """Runs buf over the contract; 1 where it finds something."""
    subject = str(image(work))
    scope = ["--path", "trana", "--config", str(PROTO / "buf.yaml")]
    codes = [subprocess.run(["buf", "lint", subject, *scope], env=ENVIRONMENT, check=False).returncode]
    breaking = ["buf", "breaking", subject, "--against", str(BASELINE), *scope]
    codes.append(subprocess.run(breaking, env=ENVIRONMENT, check=False).returncode)
    return 1 if any(codes) else 0


if __name__ == "__main__":
    sys.exit(main())
