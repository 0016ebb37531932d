"""What an expression of PromQL names, and what the control plane's registry has by these names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import promql_parser as promql
from grpc import StatusCode
from trana.jobs.domain.states import TRANSITIONS, short_name
from trana.jobs.metrics.job_series import FITS, SERIES
from trana.jobs.metrics.metrics import Metrics
from trana.jobs.scheduling.survey import Survey
from trana.v1.cause_pb2 import Cause

ON_TARGETS = frozenset({"job", "instance"})
# Prometheus' own, and Ray's exporter's: not in our registry.
FOREIGN: dict[str, frozenset[str]] = {
    "up": frozenset(),
    "ALERTS": frozenset({"alertname", "alertstate", "severity"}),
    **{f"ray_node_{name}": frozenset() for name in ("cpu_utilization", "mem_used", "gpus_utilization", "gram_used")},
}
STAND_INS = (("$__rate_interval", "1m"), ("$__range", "1h"), ("$job_id", "a1"), ("$state", "RUNNING|QUEUED"))
# What a matcher may ask a label for; a value that nothing has makes a panel that is silently empty.
VALUES = {
    "state": {short_name(state) for state in TRANSITIONS},
    "cause": {"NONE"} | {name.removeprefix("CAUSE_") for name, _ in Cause.items()},
    "verdict": set(FITS.values()),
    "grpc_code": {"OK"} | {code.name.title().replace("_", "") for code in StatusCode},
    "grpc_type": {"unary", "server_stream", "client_stream"},
    "alertstate": {"firing", "pending"},
}


def parsed(expr: str) -> promql.Expr:
    """An expression of a dashboard or a rule; Grafana's variables are given values first."""
    for variable, value in STAND_INS:
        expr = expr.replace(variable, value)
    assert "$" not in expr, f"no value is known for a variable in {expr}"
    return promql.parse(expr)


def nodes(expr: promql.Expr) -> list[Any]:
    """Every part of an expression."""
    found: list[Any] = []
    promql.walk(expr, lambda node: found.append(node))
    return found


def selectors(expr: promql.Expr) -> Iterator[tuple[str, list[Any]]]:
    """The name and the matchers of each metric that it reads."""
    for node in nodes(expr):
        if isinstance(node, promql.MatrixSelector):
            node = node.vector_selector
        if isinstance(node, promql.VectorSelector):
            yield node.name or "", node.matchers.matchers


def groupings(expr: promql.Expr) -> set[str]:
    """The labels by which it adds up or joins."""
    found: set[str] = set()
    for node in nodes(expr):
        modifier = getattr(node, "modifier", None)
        if isinstance(modifier, promql.AggModifier):
            found |= set(modifier.labels)
        if isinstance(modifier, promql.BinModifier):
            found |= set(modifier.matching.labels if modifier.matching else ()) | set(modifier.group_labels or ())
    return found


@cache
def ours() -> dict[str, frozenset[str]]:
    """Each sample's name that the control plane exports, with its labels."""
    metrics = Metrics()
    # Their series come with the first call.
    metrics.rpc.started("unary", "s", "m")
    metrics.rpc.received("unary", "s", "m")
    metrics.rpc.sent("unary", "s", "m")
    metrics.rpc.handled("unary", "s", "m", code="OK", seconds=0.1)
    metrics.saw(Survey(nodes=1, cpus=2, gpus=1, cpus_free=1, gpus_free=1))
    metrics.operated("create_job", seconds=0.1, failed=False)
    found = {series.name: frozenset({"job_id", *series.labels}) for series in SERIES}
    for family in metrics.registry.collect():
        if family.name not in found:
            found |= {sample.name: frozenset(sample.labels) for sample in family.samples}
    return found


def complaints(expr: str, *, known: dict[str, frozenset[str]]) -> list[str]:
    """What in an expression is not to be had: metrics, labels or values of labels."""
    read = parsed(expr)
    problems = []
    seen = set(ON_TARGETS)
    for name, matchers in selectors(read):
        if name not in known:
            problems.append(f"no metric is called {name}")
            continue
        seen |= known[name]
        for matcher in matchers:
            if matcher.name not in known[name] | ON_TARGETS:
                problems.append(f"{name} has no label {matcher.name}")
            allowed = VALUES.get(matcher.name)
            wrong = [value for value in re.split(r"\|", matcher.value) if allowed and value not in allowed]
            problems += [f"{matcher.name} is never {value}" for value in wrong]
    problems += [f"nothing in it has the label {label}" for label in groupings(read) - seen]
    return [f"{problem}: {expr}" for problem in problems]
