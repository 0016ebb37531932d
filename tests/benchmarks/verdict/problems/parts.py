"""Which problems are for tuning, and which are held out."""

from __future__ import annotations


def part_of(problem_id: str) -> str:
    """Odd numbers are held out, even ones are for tuning; nothing but the id counts."""
    return "held-out" if int(problem_id.rpartition("/")[2]) % 2 else "tuning"
