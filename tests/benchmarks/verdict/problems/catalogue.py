"""All problems."""

from __future__ import annotations

from functools import cache

from benchmarks.verdict.problems.functions import functions, polynomials, teachers
from benchmarks.verdict.problems.images import images
from benchmarks.verdict.problems.problem import Problem
from benchmarks.verdict.problems.sequences import sequences
from benchmarks.verdict.problems.tables import clusters, features, linear, parities, speeds

FAMILIES = (
    polynomials,
    functions,
    teachers,
    clusters,
    linear,
    features,
    speeds,
    parities,
    images,
    sequences,
)


@cache
def problems() -> dict[str, Problem]:
    """Each by its id."""
    return {problem.id: problem for family in FAMILIES for problem in family()}
