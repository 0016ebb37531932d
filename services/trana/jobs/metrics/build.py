"""Which build this is."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from prometheus_client import CollectorRegistry, Gauge


def export_build(registry: CollectorRegistry) -> None:
    """Exports the versions in the service's environment; those of the workers may be others."""
    packages = {"version": "trana", "ray": "ray", "torch": "torch", "grpc": "grpcio"}
    labels = {"python": platform.python_version(), **{label: _version(name) for label, name in packages.items()}}
    text = "1; versions in the service's environment, empty where a package is not there."
    Gauge("trana_build_info", text, tuple(labels), registry=registry).labels(**labels).set(1)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
