"""Options that commands share, and what they amount to."""

import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from trana.client.client import Client

DEFAULT_SERVER = "127.0.0.1:50051"
# Also what gRPC calls unix:PATH and dns:///HOST:PORT.
_ADDRESS = re.compile(r"unix:.+|.+:\d{1,5}")


class Output(StrEnum):
    """How a command answers."""

    TABLE = "table"
    JSON = "json"


@dataclass(slots=True)
class Settings:
    """The options of the root; a command's own, given after its name, win."""

    server: str = DEFAULT_SERVER
    output: Output = Output.TABLE

    @property
    def is_json(self) -> bool:
        """Whether programs read the output."""
        return self.output is Output.JSON

    def client(self) -> "Client":
        """Makes a client for the service that was named.

        Raises:
            typer.BadParameter: If the name is none of an address.
        """
        # Else gRPC tries port 443, and says that nobody answers.
        if not _ADDRESS.fullmatch(self.server):
            message = f"write HOST:PORT, such as {DEFAULT_SERVER}, not {self.server!r}"
            raise typer.BadParameter(message, param_hint="--server")
        from trana.client.client import Client

        return Client(self.server)


ServerOption = Annotated[
    str | None,
    typer.Option("--server", metavar="HOST:PORT", help="The service to speak to (TRANA_SERVER).", show_default=False),
]
OutputOption = Annotated[
    Output | None,
    typer.Option("--output", "-o", help="Words for people, or JSON for programs.", show_default=False),
]
EventsOutputOption = Annotated[
    Output | None,
    typer.Option(
        "--output", "-o", help="Words for people, or for programs JSON, one object on a line.", show_default=False
    ),
]
JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="Name or id of the job: jobs/iris, or iris.")]
SpecArgument = Annotated[
    Path,
    typer.Argument(
        metavar="SPEC", help="The job, in YAML or JSON; or a .py file that defines train(context) or main(context)."
    ),
]


def examples(*commands: str) -> str:
    """Returns a command's epilog: each example on a line of its own, which takes a paragraph."""
    return "\n\n".join(["Examples:", *(f"[bold]{command}[/bold]" for command in commands)])


def settings_of(context: typer.Context, server: str | None = None, output: Output | None = None) -> Settings:
    """Returns the settings of a call: the root's, then the command's own."""
    settings: Settings = context.obj
    if server is not None:
        settings.server = server
    if output is not None:
        settings.output = output
    return settings
