"""Writes the dashboards' JSON beside itself; `--check` says instead whether the files are what the code makes.

python deploy/grafana/generate.py [--check]
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from dashboards import cluster, fleet, job, service
from grafana_foundation_sdk.cog.encoder import JSONEncoder

HERE = Path(__file__).parent


def texts() -> dict[str, str]:
    """File name and content of each dashboard."""
    return {f"{room.UID}.json": _text(room.build().build()) for room in (service, cluster, job, fleet)}


def _text(made: Any) -> str:
    """JSON as Grafana stores it, with the panels numbered from the top."""
    content = json.loads(json.dumps(made, cls=JSONEncoder))
    for number, panel in enumerate(content["panels"], start=1):
        panel["id"] = number
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def main() -> int:
    """Writes or checks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 where a file is not up to date")
    only_check = parser.parse_args().check
    made = texts()
    stale = [name for name, text in made.items() if not (HERE / name).exists() or (HERE / name).read_text() != text]
    stale += [path.name for path in HERE.glob("*.json") if path.name not in made]
    if only_check:
        for name in stale:
            sys.stderr.write(f"deploy/grafana/{name} is stale: run deploy/grafana/generate.py\n")
        return bool(stale)
    for name, text in made.items():
        (HERE / name).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
