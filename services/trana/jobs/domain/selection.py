"""Which jobs a list shall hold: a documented subset of the filter language of aip.dev/160."""

from __future__ import annotations

import re
from dataclasses import dataclass

from trana.jobs.domain.errors import InvalidRequest
from trana.spec.violation import Violation
from trana.v1.fit_pb2 import FitLabel
from trana.v1.job_pb2 import JobState

STATES = tuple(name.removeprefix("JOB_STATE_") for name in JobState.keys()[1:])
FITS = tuple(name.removeprefix("FIT_LABEL_") for name in FitLabel.keys()[1:])
OPERATORS = ("!=", ">=", "<=", "=", ">", "<")
_TERM = re.compile(r"\s*(?P<field>[A-Za-z0-9_.-]+?)\s*(?P<operator>!=|>=|<=|=|>|<)\s*(?P<value>\"[^\"]*\"|[^\s\"]+)\s*")
_AND = re.compile(r"AND\s+")


@dataclass(frozen=True, slots=True)
class Term:
    """One comparison. `field` is `state`, `fit`, `priority` or `labels.{key}`.

    States and labels of fits are short names, `RUNNING` and `OVERFITTING`.
    """

    field: str
    operator: str
    value: str


def parse_filter(text: str) -> tuple[Term, ...]:
    """Reads `state = RUNNING AND labels.team = "vision" AND priority >= 50 AND fit != OVERFITTING`; "" selects all.

    Raises:
        InvalidRequest: with what is wrong and what would be right.
    """
    terms: list[Term] = []
    position = 0
    while position < len(text.rstrip()):
        if terms:
            joint = _AND.match(text, position)
            if joint is None:
                raise _invalid(f"expected AND at {text[position:].strip()!r}")
            position = joint.end()
        match = _TERM.match(text, position)
        if match is None:
            raise _invalid(f"cannot read {text[position:].strip()!r}")
        terms.append(_term(match["field"], match["operator"], match["value"].strip('"')))
        position = match.end()
    return tuple(terms)


def _term(field: str, operator: str, value: str) -> Term:
    if field == "state":
        name = value.upper().removeprefix("JOB_STATE_")
        if name not in STATES:
            raise _invalid(f"there is no state {value!r}, only {', '.join(STATES)}")
        value = name
    if field == "fit":
        name = value.upper().removeprefix("FIT_LABEL_")
        if name not in FITS:
            raise _invalid(f"there is no fit {value!r}, only {', '.join(FITS)}")
        value = name
    if field == "priority" and not re.fullmatch(r"-?\d{1,9}", value):
        raise _invalid(f"priority is compared with a whole number, not {value!r}")
    if field not in ("state", "fit", "priority") and not re.fullmatch(r"labels\.[A-Za-z0-9_.-]+", field):
        raise _invalid(f"cannot filter by {field!r}: state, fit, priority and labels.KEY can be")
    if field != "priority" and operator not in ("=", "!="):
        raise _invalid(f"{field} can be compared with = and != only")
    return Term(field, operator, value)


def _invalid(problem: str) -> InvalidRequest:
    example = 'state = RUNNING AND labels.team = "vision" AND priority >= 50'
    return InvalidRequest([Violation("filter", f"{problem}; an example: {example}", "filter.syntax")])
