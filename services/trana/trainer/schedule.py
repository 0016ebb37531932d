"""The learning rate over time: a pure function, so that a resumed training needs no scheduler's state."""

import math

from trana.v1 import training_pb2


def learning_rate(
    spec: training_pb2.TrainingSpec, base: float, *, epoch: int, step: int, num_steps: int, drops: int = 0
) -> float:
    """Returns the learning rate of a step.

    During warm-up it rises linearly over the steps, to reach `base` in the last of them. After that, a cosine
    falls step by step from `base` in the first step that is left to its minimum in the last one; a single step is
    made at `base`, for at a minimum of 0 it would teach nothing. The other shapes change between epochs.

    Args:
        spec: Of it the schedule and the number of epochs count.
        base: The optimiser's learning rate.
        epoch: From 1.
        step: Of this epoch, from 0.
        num_steps: Steps of an epoch.
        drops: How often the plateau has dropped it.
    """
    schedule = spec.schedule
    warmup = schedule.warmup_epochs
    if epoch <= warmup:
        return base * ((epoch - 1) * num_steps + step + 1) / (warmup * num_steps)
    done = epoch - 1 - warmup
    match schedule.WhichOneof("shape"):
        case "cosine":
            last = (spec.epochs - warmup) * num_steps - 1
            share = (done * num_steps + step) / max(last, 1)
            floor = schedule.cosine.min_learning_rate
            return floor + (base - floor) * (1 + math.cos(math.pi * share)) / 2
        case "step":
            return base * schedule.step.gamma ** (done // schedule.step.every_epochs)
        case "plateau":
            floor = min(schedule.plateau.min_learning_rate, base)
            return max(floor, base * schedule.plateau.factor**drops)
        case _:
            return base
