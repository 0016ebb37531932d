"""A service that is nothing but a cluster: `python service.py FOLDER`. Says `up`, and waits to be killed."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from integration.cluster.driving import until
from trana.jobs.cluster.cluster import Cluster, ClusterSettings


async def main(folder: Path) -> None:
    cluster = Cluster(ClusterSettings(folder=folder, num_cpus=2))
    await cluster.start()
    await until(lambda: cluster.reachable, seconds=60)
    print("up", flush=True)  # noqa: T201 - whoever started it waits for that
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
