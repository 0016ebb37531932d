"""The environment of the cluster agent, which every process of its Ray inherits. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from trana.jobs.cluster.contract import ClusterSettings

MARK = "TRANA_CLUSTER"
"""Names the runtime folder in the environment of each process that the agent starts: how leftovers are known."""

_FOREIGN = ("RAY_ADDRESS", "RAY_NAMESPACE", "RAY_AUTH_TOKEN", "RAY_JOB_CONFIG_JSON_ENV_VAR")


def mark_of(folder: Path) -> str:
    """The value of `MARK` for a runtime folder; the same after a restart of the service."""
    return str(folder.resolve())


def token_path(settings: ClusterSettings) -> Path:
    """Where the token is that Ray's processes show each other."""
    return settings.auth_token_path or settings.folder / "token"


def agent_environment(settings: ClusterSettings, *, inherited: Mapping[str, str]) -> dict[str, str]:
    """The environment of the agent.

    Ray reads most of this when it is imported, so it must be there before the agent starts. Token authentication is
    set explicitly: the default differs between `ray start` and `ray.init` and depends on a file in the home folder.
    """
    environment = {name: value for name, value in inherited.items() if name not in _FOREIGN}
    environment |= {
        MARK: mark_of(settings.folder),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token_path(settings).resolve()),
        "RAY_USAGE_STATS_ENABLED": "0",
        # A killed worker's own children (those of a DataLoader) would live on without it.
        "RAY_kill_child_processes_on_worker_exit_with_raylet_subreaper": "1",
        # Workers that were promised no GPU see none.
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
        # pip tries again by itself; Ray would make the whole environment anew, three times, for a misspelt package.
        "RUNTIME_ENV_RETRY_TIMES": "1",
        # The head would remember each task of each job.
        "RAY_task_events_report_interval_ms": "0",
    }
    if settings.embedded:
        # "No clusters on this system" is how Ray is told to listen on loopback alone; `_node_ip_address` is not
        # enough, because it turns 127.0.0.1 into the address of the machine.
        environment["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    return environment
