"""Draws what the two networks of this example have made of the five points, as an SVG.

Usage: python draw.py LINE_BEST NETWORK_BEST NETWORK_LAST TO.svg, where the first three are checkpoints that
`trana pull` has fetched: the line's best, the network's best, and the network's last.
"""

import csv
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file

WIDTH, HEIGHT, EDGE = 720, 400, 40
LEFT, RIGHT, BOTTOM, TOP = -1.1, 1.1, -1.8, 1.8


def load(folder: str) -> torch.nn.Module:
    """Loads a checkpoint of the line or of the network: its tensors tell which it is."""
    weights = load_file(Path(folder) / "network.safetensors")
    line = torch.nn.Linear(1, 1)
    network = torch.nn.Sequential(torch.nn.Linear(1, 2), torch.nn.Tanh(), torch.nn.Linear(2, 1))
    built = network if "2.weight" in weights else torch.nn.Sequential(line)
    built.load_state_dict(weights)
    return built


def place(x: float, y: float) -> tuple[float, float]:
    """Brings a point of the data to the picture, pixels from its upper left corner."""
    across = (x - LEFT) / (RIGHT - LEFT) * (WIDTH - 2 * EDGE) + EDGE
    return across, (TOP - y) / (TOP - BOTTOM) * (HEIGHT - 2 * EDGE) + EDGE


def curve(points: Iterable[tuple[float, float]], style: str) -> str:
    """Draws a line through points."""
    path = " ".join("{:.1f},{:.1f}".format(*place(x, y)) for x, y in points)
    return f'<polyline points="{path}" fill="none" {style}/>'


@torch.no_grad()
def trace(network: torch.nn.Module) -> list[tuple[float, float]]:
    """Asks a network for its y over the whole range of x."""
    grid = torch.linspace(-1.05, 1.05, 211)
    return list(zip(grid.tolist(), network(grid[:, None])[:, 0].tolist(), strict=True))


def dots(split: str, style: str, radius: float) -> Iterator[str]:
    """Draws the points of a split."""
    with (Path(__file__).parent / "points.csv").open() as file:
        for row in csv.DictReader(file):
            if row["split"] == split:
                x, y = place(float(row["x"]), float(row["y"]))
                yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" {style}/>'


def legend(entries: dict[str, str]) -> Iterator[str]:
    """Names the lines, in the upper left corner."""
    for number, (text, style) in enumerate(entries.items()):
        y = EDGE + 22 * number
        yield f'<line x1="{EDGE + 8}" y1="{y}" x2="{EDGE + 38}" y2="{y}" {style}/>'
        yield f'<text x="{EDGE + 48}" y="{y + 5}" font-size="14" fill="#333">{text}</text>'


def draw(line: str, best: str, last: str) -> Iterator[str]:
    """Yields the picture of three checkpoints: the line's, the network's best and its last."""
    truth, straight = 'stroke="#999" stroke-dasharray="6 5"', 'stroke="#0b7285" stroke-width="2.5"'
    turned, ended = 'stroke="#e67700" stroke-width="2.5" stroke-dasharray="2 3"', 'stroke="#c92a2a" stroke-width="2.5"'
    yield f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif">'
    yield "<title>Five noisy points of a line, a straight line and a network of 7 parameters through them</title>"
    yield f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>'
    yield from dots("validation", 'fill="#ced4da"', 2.5)
    yield curve([(-1.05, -1.05), (1.05, 1.05)], truth)
    for folder, style in ((line, straight), (best, turned), (last, ended)):
        yield curve(trace(load(folder)), style)
    yield from dots("train", 'fill="#212529"', 5.5)
    named = {"the truth": truth, "2 parameters": straight, "7, at its best epoch": turned, "7, at the end": ended}
    yield from legend(named)
    yield "</svg>"


if __name__ == "__main__":
    *checkpoints, to = sys.argv[1:]
    Path(to).write_text("\n".join(draw(*checkpoints)) + "\n")
