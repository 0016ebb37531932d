"""What crosses the door of the room: its errors, its settings, and the values that are asked and answered.

Nothing here knows Ray: the control plane, the cluster agent and the supervisor share these types.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trana.jobs.domain.attempt import AttemptKey, Ending
from trana.jobs.scheduling.ledger import Gang


class ClusterUnreachable(Exception):
    """The agent or the head cannot be asked now. Never proof that anything died."""


class FolderInUse(Exception):
    """Another service uses the runtime folder."""


class AttemptGone(Exception):
    """Proof that no supervisor of that name lives in the cluster."""


def bundle_of(gang: Gang) -> dict[str, float]:
    """What Ray is asked for on behalf of one worker of the gang."""
    bundle = {"CPU": gang.cpus_per_worker, "GPU": gang.gpus_per_worker}
    return {resource: amount for resource, amount in bundle.items() if amount}


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """Which Ray is used, and where this machine keeps what belongs to the use.

    Attributes:
        folder: Private runtime folder (made 0700): lock, token, agent log, the installation's id. Never shared by
            two services; who comes back to a joined Ray with another folder does not know its attempts again.
        address: `"local"` starts an embedded Ray; `host:port` joins the Ray whose head listens there.
        num_cpus: CPUs of the embedded Ray; None takes what Ray finds. Ignored when joining.
        num_gpus: GPUs of the embedded Ray; None takes what Ray finds. Ignored when joining.
        auth_token_path: File with the token of the joined Ray. The embedded Ray gets a token of its own.
        call_timeout_seconds: How long an answer may take before the cluster counts as unreachable.

    Raises:
        ValueError: A Ray is to be joined without a token.
    """

    folder: Path
    address: str = "local"
    num_cpus: int | None = None
    num_gpus: int | None = None
    auth_token_path: Path | None = None
    call_timeout_seconds: float = 10.0

    def __post_init__(self) -> None:
        if not self.embedded and self.auth_token_path is None:
            raise ValueError(
                f"Ray at {self.address} is only joined with token authentication: "
                "give the path of the file that holds its token."
            )

    @property
    def embedded(self) -> bool:
        """Whether Ray is started and ended by this service."""
        return self.address == "local"


@dataclass(frozen=True, slots=True)
class AttemptRequest:
    """All that a supervisor needs to run an attempt.

    Attributes:
        key: Names the attempt.
        spec: The serialised `trana.v1.TrainingSpec`, handed to the entrypoint untouched.
        gang: The workers and what each of them holds.
        folder: The job's storage folder, handed to the entrypoint.
        entrypoint: `module:function`, resolved in the workers.
        start_timeout_seconds: How long it may take until the workers have their places, and then until all are up.
        install_timeout_seconds: How much longer they may take to be up, for the packages that are installed before.
        code: Path of the user's code, a zip archive, handed to the entrypoint; empty where there is none.
        pip: Packages that pip installs for the workers of this attempt alone.
    """

    key: AttemptKey
    spec: bytes
    gang: Gang
    folder: str
    entrypoint: str = "trana.trainer.worker:run"
    start_timeout_seconds: float = 120.0
    install_timeout_seconds: float = 0.0
    code: str = ""
    pip: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads."""
        return {
            "job": self.key.job,
            "number": self.key.number,
            "spec": base64.b64encode(self.spec).decode("ascii"),
            "gang": [self.gang.num_workers, self.gang.cpus_per_worker, self.gang.gpus_per_worker],
            "folder": self.folder,
            "entrypoint": self.entrypoint,
            "start_timeout_seconds": self.start_timeout_seconds,
            "install_timeout_seconds": self.install_timeout_seconds,
            "code": self.code,
            "pip": list(self.pip),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> AttemptRequest:
        """Reads what `to_json` wrote."""
        return cls(
            key=AttemptKey(values["job"], values["number"]),
            spec=base64.b64decode(values["spec"]),
            gang=Gang(*values["gang"]),
            folder=values["folder"],
            entrypoint=values["entrypoint"],
            start_timeout_seconds=values["start_timeout_seconds"],
            install_timeout_seconds=values["install_timeout_seconds"],
            code=values["code"],
            pip=tuple(values["pip"]),
        )


@dataclass(frozen=True, slots=True)
class Poll:
    """What is new about an attempt.

    Attributes:
        reports: Sequence numbers, from 1 without gaps, and serialised `trana.v1.Report` messages.
        started: All workers are up and the entrypoint was called.
        ending: How the attempt ended; given only once every report was handed out.
    """

    reports: tuple[tuple[int, bytes], ...] = ()
    started: bool = False
    ending: Ending | None = None

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads."""
        return {
            "reports": [[number, base64.b64encode(data).decode("ascii")] for number, data in self.reports],
            "started": self.started,
            "ending": ending_to_json(self.ending),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Poll:
        """Reads what `to_json` wrote."""
        return cls(
            reports=tuple((number, base64.b64decode(data)) for number, data in values["reports"]),
            started=values["started"],
            ending=ending_from_json(values["ending"]),
        )


@dataclass(frozen=True, slots=True)
class Check:
    """What a preflight found.

    Attributes:
        ending: Good where the job may start.
        warnings: What speaks against its success but does not forbid it, a sentence each.
    """

    ending: Ending = field(default_factory=Ending)
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads."""
        return {"ending": ending_to_json(self.ending), "warnings": list(self.warnings)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Check:
        """Reads what `to_json` wrote."""
        return cls(ending=ending_from_json(values["ending"]) or Ending(), warnings=tuple(values["warnings"]))


def ending_to_json(ending: Ending | None) -> list[Any] | None:
    """What `ending_from_json` reads."""
    return None if ending is None else [int(ending.cause), ending.message]


def ending_from_json(values: list[Any] | None) -> Ending | None:
    """Reads what `ending_to_json` wrote."""
    return None if values is None else Ending(values[0], values[1])
