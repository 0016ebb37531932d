"""Trains the corpus, or takes a stored one, and prints how the rules fare on it."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from rich.console import Console
from rich.progress import track

from benchmarks.verdict import corpus
from benchmarks.verdict.curve import STORED, Curve, load, save
from benchmarks.verdict.figures import confusion, table
from benchmarks.verdict.rules import RULES
from benchmarks.verdict.scoring import Case, Score, score_with

TRANA = tuple(RULES)[:2]
_TITLES = {
    "tuning": "The problems that the verdict was tuned on",
    "held-out": "The problems that it was not tuned on: the figures that count",
}


def main() -> int:
    """Trains, scores and prints; returns the exit code."""
    asked = _parser().parse_args()
    screen = Console(stderr=True)
    parts = corpus.PARTS if asked.part == "all" else (asked.part,)
    curves = [curve for curve in _curves(asked, parts) if curve.part in parts]
    if asked.save:
        save(curves, asked.save)
    for part in parts:
        _report(part, [curve for curve in curves if curve.part == part], asked, screen)
    return 0


def _report(part: str, curves: Sequence[Curve], asked: argparse.Namespace, screen: Console) -> None:
    """Prints how the rules fare on one part of the corpus; not through rich, which would wrap a Markdown table."""
    cases = [Case.of(curve) for curve in track(curves, f"asking the oracle, {part}", console=screen)]
    names = [name for name in RULES if asked.rule in name]
    scores = {name: _scores(name, cases, screen) for name in names}
    sys.stdout.write(f"## {_TITLES[part]}\n\n{_described(cases)}\n\n")
    sys.stdout.write(table(scores, bold=len(set(names) & set(TRANA))) + "\n")
    for name in (each for each in names if each in TRANA):
        sys.stdout.write(f"\nWhole curves, {name}:\n\n{confusion(scores[name])}\n")
    if asked.errors:
        sys.stdout.write("".join(f"\n{name}\n{_errors(scores[name], cases)}\n" for name in names))
    sys.stdout.write("\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make bench-verdict", description=__doc__)
    parser.add_argument("--part", choices=("held-out", "tuning", "all"), default="all")
    parser.add_argument("--curves", default="", metavar="WHERE", help="'stored', or a folder; else all are trained")
    parser.add_argument("--train", type=Path, metavar="FOLDER", help="train what is missing there, and keep it")
    parser.add_argument("--save", type=Path, metavar="FILE", help="write the curves to one .npz")
    parser.add_argument("--rule", default="", metavar="TEXT", help="only rules with this in their names")
    parser.add_argument("--errors", action="store_true", help="list what each rule gets wrong")
    return parser


def _curves(asked: argparse.Namespace, parts: Sequence[str]) -> list[Curve]:
    if asked.curves:
        return load(STORED if asked.curves == "stored" else Path(asked.curves))
    if asked.train:
        corpus.train_all(asked.train, parts)
        return load(asked.train)
    with tempfile.TemporaryDirectory() as name:
        corpus.train_all(Path(name), parts)
        return load(Path(name))


def _scores(name: str, cases: Sequence[Case], screen: Console) -> list[Score]:
    with ProcessPoolExecutor(corpus.PROCESSES) as pool:
        scored = pool.map(score_with, [name] * len(cases), cases, chunksize=4)
        return list(track(scored, name, total=len(cases), console=screen))


def _described(cases: Sequence[Case]) -> str:
    labels = Counter(case.whole.label for case in cases)
    problems = len({case.curve.problem for case in cases})
    told = ", ".join(f"{count} {label}" for label, count in labels.most_common())
    unclear = sum(case.whole.ambiguous for case in cases), sum(not case.is_clear_ever for case in cases)
    return (
        f"{len(cases)} runs of {problems} problems, {sum(len(case.curve) for case in cases)} epochs: {told}. "
        f"Too near the line to be scored: {unclear[0]} whole curves, {unclear[1]} at any epoch."
    )


def _errors(scores: Sequence[Score], cases: Sequence[Case]) -> str:
    lines = []
    for each, case in zip(scores, cases, strict=True):
        wrong = [
            *(["missed"] if each.recall == 0 and each.is_clear else []),
            *(["FALSE ALARM"] if each.false_alarm == 1 and each.is_clear else []),
            *(["false at any epoch"] if each.false_alarm_ever == 1 and each.is_clear_ever else []),
            *(["early"] if each.early == 1 else []),
            *(["onset"] if each.onset_near == 0 and each.is_clear else []),
            *([f"gives up {each.lost:.1%}"] if each.given_up == 1 else []),
        ]
        if wrong:
            whole, settings = case.whole, case.curve.settings
            lines.append(
                f"{each.name:18} {', '.join(wrong)}: true {whole.label} onset {whole.onset} rise {whole.rise:.2f}, "
                f"told {each.told}, first alarm {each.first_alarm}, stop {each.stop_epoch}, of {each.epochs} epochs; "
                f"{settings['kind']}, {settings['network']}, {case.curve.num_train}/{case.curve.num_val}, "
                f"{settings['optimizer']} {settings['rate']:g} {settings['schedule']}"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
