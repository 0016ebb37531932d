"""How a run is trained, and what people try: each run's settings are drawn from what is usual for its family."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import TypeVar

from benchmarks.verdict.problems.problem import Problem

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that a run depends on besides its problem."""

    kind: str
    network: str
    num_train: int
    num_val: int
    epochs: int
    batch: int
    optimizer: str
    rate: float
    schedule: str = "constant"
    weight_decay: float = 0.0
    dropout: float = 0.0
    augmentation: float = 0.0
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Menu:
    """What is usual for a family: sizes of data and of networks, epochs, and rates of Adam."""

    small: tuple[int, ...]
    medium: tuple[int, ...]
    large: tuple[int, ...]
    narrow: tuple[str, ...]
    usual: tuple[str, ...]
    wide: tuple[str, ...]
    epochs: tuple[int, ...]
    rates: tuple[float, ...] = (0.001, 0.003, 0.01)
    descent: tuple[float, ...] = (0.01, 0.03, 0.1)
    runs: int = 8
    steps: int = 8_000


DENSE_EPOCHS = (50, 80, 120, 200, 300)
MENUS = {
    "polynomials": Menu(
        small=(8, 12, 20), medium=(30, 60), large=(200, 1000),
        narrow=("poly 1", "poly 2", "mlp 4"), usual=("poly 5", "poly 9", "tanh 16", "mlp 32"),
        wide=("poly 15", "poly 25", "tanh 64 64", "mlp 256"),
        epochs=(100, 200, 300, 400), rates=(0.003, 0.01, 0.03), descent=(0.02, 0.05, 0.1), steps=5_000,
    ),
    "functions": Menu(
        small=(30, 60, 100), medium=(200, 500, 1000), large=(4000, 10000),
        narrow=("linear", "mlp 4", "tanh 8"), usual=("mlp 32", "mlp 64 64", "tanh 32 32"),
        wide=("mlp 128 128", "mlp 512", "tanh 128 64"), epochs=DENSE_EPOCHS,
    ),
    "teachers": Menu(
        small=(40, 80, 150), medium=(300, 800, 1500), large=(5000, 12000),
        narrow=("mlp 3", "tanh 4", "linear"), usual=("mlp 32", "mlp 64 64", "tanh 32"),
        wide=("mlp 128 128", "mlp 256 64", "tanh 256"), epochs=DENSE_EPOCHS,
    ),
    "clusters": Menu(
        small=(20, 50, 100), medium=(200, 500, 1000), large=(4000, 10000),
        narrow=("linear", "mlp 3", "mlp 8"), usual=("mlp 32", "mlp 64 32", "tanh 32"),
        wide=("mlp 128 128", "mlp 256 64", "mlp 200"), epochs=DENSE_EPOCHS,
    ),
    "linear": Menu(
        small=(20, 40, 60), medium=(100, 150, 250, 400), large=(1000, 4000, 20000),
        narrow=("linear",), usual=("linear",), wide=("linear", "mlp 64", "mlp 128"),
        epochs=(60, 100, 200, 300), rates=(0.003, 0.01, 0.03), descent=(0.003, 0.01, 0.03),
    ),
    "features": Menu(
        small=(30, 60), medium=(150, 300, 600), large=(2000, 5000),
        narrow=("features 10", "features 30"), usual=("features 100", "features 300"),
        wide=("features 1000", "features 2000"), epochs=(60, 100, 200, 300), rates=(0.01, 0.03, 0.1),
        descent=(0.1, 0.3, 1.0),
    ),
    "speeds": Menu(
        small=(70, 90), medium=(110, 140, 180), large=(400, 1000),
        narrow=("linear",), usual=("linear",), wide=("linear", "mlp 64"),
        epochs=(200, 300, 400), rates=(0.003, 0.01), descent=(0.01, 0.02, 0.04),
    ),
    "parities": Menu(
        small=(120, 200), medium=(400, 800), large=(2000, 5000),
        narrow=("mlp 4", "mlp 8"), usual=("mlp 64", "mlp 128"), wide=("mlp 256", "mlp 512"),
        epochs=(100, 150, 250), rates=(0.001, 0.003), descent=(0.05, 0.1),
    ),
    "images": Menu(
        small=(40, 80, 150), medium=(300, 600, 1000), large=(2000, 3000),
        narrow=("linear", "conv 1", "conv 2"), usual=("conv 4", "conv 6"), wide=("conv 12", "mlp 128 64"),
        epochs=(20, 30, 40, 60), rates=(0.001, 0.003, 0.01), descent=(0.01, 0.03, 0.1), runs=6, steps=3_000,
    ),
    "sequences": Menu(
        small=(50, 100, 200), medium=(400, 800, 1500), large=(3000, 6000),
        narrow=("rnn 3", "gru 3"), usual=("gru 12", "lstm 12", "rnn 16"), wide=("gru 24", "lstm 24", "rnn 32"),
        epochs=(20, 30, 40, 60), rates=(0.003, 0.01, 0.03), descent=(0.03, 0.1, 0.3), runs=6, steps=3_000,
    ),
}  # fmt: skip
KINDS = (
    "small data",
    "large data",
    "regularised",
    "scheduled",
    "unfinished",
    "wide network",
    "too high a rate",
    "narrow network",
    "few to validate",
    "plain",
    "trained long",
)


def runs_of(problem: Problem) -> list[Settings]:
    """The runs of a problem; drawn from its id alone."""
    menu, number = MENUS[problem.family], int(problem.id.partition("/")[2])
    # Steps of 3 through ten kinds reach them all, and neither parity of the number misses one.
    kinds = [KINDS[(3 * index + number // 2 + 5 * (number % 2)) % 10] for index in range(menu.runs)]
    # Most people train far too long rather than too short: the last quarter of the runs is like that.
    kinds[-(menu.runs // 4) :] = ["trained long"] * (menu.runs // 4)
    return [_drawn(problem, menu, kind, index) for index, kind in enumerate(kinds)]


def _drawn(problem: Problem, menu: Menu, kind: str, index: int) -> Settings:
    draw = random.Random(f"{problem.id}|{index}|{kind}")
    data = {"small data": menu.small, "large data": menu.large, "regularised": menu.small + menu.medium}
    networks = {"narrow network": menu.narrow, "wide network": menu.wide, "regularised": menu.usual + menu.wide}
    networks |= {"trained long": menu.usual + menu.wide}
    data |= {"narrow network": menu.medium + menu.large, "wide network": menu.small + menu.medium}
    data |= {"trained long": menu.small + menu.medium}
    num_train = draw.choice(
        data.get(kind, menu.small + menu.medium + (menu.large if kind != "few to validate" else ()))
    )
    optimizer = draw.choice(("adam", "adam", "sgd"))
    base = Settings(
        kind=kind,
        network=draw.choice(networks.get(kind, menu.usual)),
        num_train=num_train,
        num_val=_validation(draw, kind, num_train),
        epochs=draw.choice(menu.epochs),
        batch=_batch(draw, num_train),
        optimizer=optimizer,
        rate=draw.choice(menu.rates if optimizer == "adam" else menu.descent),
        weight_decay=draw.choice((0.0, 0.0, 1e-4)),
        seed=draw.randrange(2**31),
    )
    long = 2 if kind == "trained long" else 1
    return _shortened(_changed(draw, replace(base, epochs=base.epochs * long)), menu.steps * long)


def _validation(draw: random.Random, kind: str, num_train: int) -> int:
    if kind == "few to validate":
        return draw.choice((8, 10, 16, 24))
    return min(4000, max(12, int(num_train * draw.choice((0.2, 0.25, 0.5, 1.0)))))


def _batch(draw: random.Random, num_train: int) -> int:
    usual = [size for size in (8, 16, 32, 64, 128, 256) if num_train / 80 <= size <= num_train / 3]
    return draw.choice(usual or [num_train])


def _changed(draw: random.Random, base: Settings) -> Settings:
    if base.kind == "regularised":
        decay = draw.choice((0.0, 1e-3, 1e-2)) * (30 if base.optimizer == "adam" else 1)
        dropout, noise = draw.choice((0.0, 0.2, 0.5)), draw.choice((0.0, 0.1, 0.3))
        return replace(base, weight_decay=decay, dropout=dropout, augmentation=noise)
    if base.kind == "scheduled":
        return replace(base, schedule=draw.choice(("step", "cosine", "restarts", "exponential")))
    if base.kind == "unfinished":
        epochs = max(12, base.epochs // draw.choice((3, 6, 10)))
        return replace(base, epochs=epochs, rate=base.rate * draw.choice((0.1, 0.3)))
    if base.kind == "too high a rate":
        schedule = draw.choice(("constant", "constant", "rising"))
        factor = draw.choice((4, 10, 30)) if schedule == "constant" else 3
        return replace(base, optimizer=draw.choice(("sgd", base.optimizer)), rate=base.rate * factor, schedule=schedule)
    return base


def _shortened(settings: Settings, steps: int) -> Settings:
    """Fewer epochs where a run would take too long."""
    each = -(-settings.num_train // settings.batch)
    return replace(settings, epochs=max(12, min(settings.epochs, steps // each)))
