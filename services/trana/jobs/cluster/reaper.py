"""The reaper: waits for the end of the cluster agent, then ends what is left of its Ray.

When the service is killed, the kernel kills the agent with it, and then Ray's raylet and gcs_server; Ray's workers
and agents find out by themselves, some of them after a minute. While the service lives it sweeps for itself, and the
reaper, which carries the mark too, is among the first to go: it can never meet the next agent.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys

from trana.jobs.cluster.sweeping import sweep


def start_reaper(mark: str, *, session: int, ray_folder: str | None) -> subprocess.Popen[bytes]:
    """Starts the reaper of this process, which it notices to be gone by the end of a pipe. Keep what is returned."""
    arguments = [mark, str(session)] if ray_folder is None else [mark, str(session), ray_folder]
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "trana.jobs.cluster.reaper", *arguments],
        stdin=subprocess.PIPE,
        start_new_session=True,  # not in the session that it ends
    )


def main(mark: str, session: str, *ray_folders: str) -> None:
    """Waits, sweeps, and removes the folder of an embedded Ray."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.stdin.read()
    sweep(mark, session=int(session))
    for folder in ray_folders:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
