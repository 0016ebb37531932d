"""The only reader of the environment and of the command line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

EMBEDDED = "local"


class SettingsError(Exception):
    """An option or a variable of the environment is wrong."""


def _host_and_port(text: str) -> str:
    if not re.fullmatch(r"(\[[0-9a-fA-F:]+\]|[^:\s]+):\d{1,5}", text) or int(text.rpartition(":")[2]) > 65535:
        raise ValueError(f"{text!r} is not HOST:PORT, such as 127.0.0.1:50051; ports go to 65535, 0 takes a free one")
    return text


# Shorter names read better in the table below.
Listen = Annotated[str, AfterValidator(_host_and_port)]


class Settings(BaseSettings):
    """Trana's control plane: takes jobs over gRPC and trains them on a Ray cluster.

    Each option is also read from the environment, as TRANA_LISTEN and so on; the command line wins.
    """

    model_config = SettingsConfigDict(
        env_prefix="TRANA_",
        cli_parse_args=True,
        cli_kebab_case=True,
        cli_prog_name="python -m trana.jobs",
        cli_implicit_flags=True,
        cli_hide_none_type=True,
        cli_avoid_json=True,
    )

    listen: Listen = Field(
        default="127.0.0.1:50051", description="where the API is served; loopback unless told otherwise"
    )
    metrics_listen: Listen = Field(default="127.0.0.1:9464", description="where /metrics is served")
    home: Path = Field(default=Path("~/.trana"), description="folder of the database, the checkpoints and the logs")
    ray_address: str = Field(
        default="local", description="HOST:PORT of a Ray head to join; local embeds a Ray of its own"
    )
    ray_token_path: Path | None = Field(
        default=None, description="file with the Ray cluster's token; made where embedded"
    )
    num_cpus: int | None = Field(
        default=None, ge=1, description="CPUs of the embedded Ray; all of the machine's where unset"
    )
    num_gpus: int | None = Field(
        default=None, ge=0, description="GPUs of the embedded Ray; all of the machine's where unset"
    )
    autoscaling: bool = Field(
        default=False,
        description="whether the joined Ray grows: it is told what the queue needs, and no job is too large",
    )
    log_format: Literal["console", "json"] = Field(
        default="console", description="how logs are written, to standard error"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="the least that is logged"
    )
    ready_file: Path | None = Field(
        default=None, description="written with the addresses, as JSON, once the service serves"
    )
    allow_code: bool = Field(
        default=True, description="whether jobs may bring code of their own, which runs with the service's rights"
    )
    tracing: bool = Field(
        default=False,
        description="whether traces are sent, over OTLP, to where OTEL_EXPORTER_OTLP_ENDPOINT says; needs trana[otel]",
    )
    start_timeout_seconds: float = Field(default=120.0, gt=0, description="for the workers of an attempt to be up")
    check_timeout_seconds: float = Field(default=600.0, gt=0, description="for a job's dataset to be checked")
    cancel_grace_seconds: float = Field(
        default=5.0, ge=0, description="for workers to stop by themselves before they are killed"
    )
    drain_seconds: float = Field(default=5.0, ge=0, description="for running calls to finish when the service stops")

    @model_validator(mode="after")
    def _check_token(self) -> Self:
        if self.ray_address != EMBEDDED and self.ray_token_path is None:
            raise ValueError(
                f"Ray at {self.ray_address} is joined with token authentication only: name the file that holds its "
                "token with --ray-token-path"
            )
        return self

    @model_validator(mode="after")
    def _check_autoscaling(self) -> Self:
        if self.autoscaling and self.ray_address == EMBEDDED:
            raise ValueError(
                "an embedded Ray has this machine and no more, so it cannot grow: leave out --autoscaling, or name a "
                "Ray to join with --ray-address"
            )
        return self

    @classmethod
    def read(cls) -> Self:
        """Reads the command line and the environment.

        Raises:
            SettingsError: a value is wrong; the text names the option and what would be right.
        """
        try:
            return cls()
        except ValidationError as error:
            problems = [
                " ".join(["--" + "-".join(map(str, found["loc"])).replace("_", "-"), found["msg"]]).removeprefix("-- ")
                for found in error.errors()
            ]
            raise SettingsError("; ".join(problems).replace("Value error, ", "")) from error

    @property
    def folder(self) -> Path:
        """`home`, absolute."""
        return self.home.expanduser().resolve()
