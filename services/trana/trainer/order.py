"""In which order samples are seen, and by whom: pure functions of seed, epoch and counts."""

from trana.trainer.data.splitting import Rows, shuffle


def order(seed: int, epoch: int, count: int) -> Rows:
    """Returns the order of the training samples in an epoch (from 1): int64 of shape (count,)."""
    return shuffle(count, seed, epoch)


def num_steps(count: int, global_batch_size: int) -> int:
    """Returns the steps of an epoch over `count` samples: as few as batches of that size allow."""
    return -(-count // global_batch_size)


def share(count: int, parts: int, index: int) -> tuple[int, int]:
    """Deals 0 to count - 1 in order to `parts` parts whose sizes differ by at most one, the larger ones first.

    So no epoch ends in a tiny batch, which would pull the weights as hard as a whole one.

    Returns:
        Where part `index` begins, and where it ends (exclusive); equal where it is empty.
    """
    size, larger = divmod(count, parts)
    start = index * size + min(index, larger)
    return start, start + size + (index < larger)
