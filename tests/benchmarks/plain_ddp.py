"""What one writes without Trana: DistributedDataParallel, a DataLoader and Adam, under torchrun. It keeps nothing.

torchrun --nproc-per-node 2 plain_ddp.py DATA.csv TARGET EPOCHS BATCH LAYER LAYER ...
"""

from __future__ import annotations

import csv
import sys
import time
from itertools import pairwise

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset


def load(path: str, target: str) -> TensorDataset:
    """Reads the table into memory."""
    with open(path) as file:  # noqa: PTH123
        rows = list(csv.DictReader(file))
    classes = sorted({row[target] for row in rows})
    features = [[float(value) for name, value in row.items() if name != target] for row in rows]
    return TensorDataset(torch.tensor(features), torch.tensor([classes.index(row[target]) for row in rows]))


def main() -> None:
    """Trains, and prints when the first step was done and how many samples went through in a second."""
    path, target, epochs, batch, *sizes = sys.argv[1:]
    dist.init_process_group("gloo")
    torch.set_num_threads(1)
    data = load(path, target)
    widths = [data.tensors[0].shape[1], *map(int, sizes)]
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    network = DistributedDataParallel(nn.Sequential(*layers[:-1]))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    sampler: DistributedSampler[tuple[torch.Tensor, ...]] = DistributedSampler(data)
    loader = DataLoader(data, batch_size=int(batch) // dist.get_world_size(), sampler=sampler)
    first, rates = 0.0, []
    for epoch in range(int(epochs)):
        sampler.set_epoch(epoch)
        start = time.monotonic()
        for features, targets in loader:
            nn.functional.cross_entropy(network(features), targets).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad()
            first = first or time.time()
        rates.append(len(data) / (time.monotonic() - start))
    if dist.get_rank() == 0:
        print(f"first_step={first} samples_per_second={max(rates)}")  # noqa: T201
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
