"""A script alone, without a job's file: `trana submit deploy/examples/script/train.py --workers 2 --watch`.

Its data come from wherever it likes; here they are drawn: a noisy sine.
"""

import torch
from torch import nn
from torch.nn import functional
from trana.trainer.context import Context


def draw(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Draws points of a noisy sine: x and y, each of shape (count, 1)."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(count, 1, generator=generator) * 6 - 3
    return x, x.sin() + 0.1 * torch.randn(count, 1, generator=generator)


def train(context: Context) -> None:
    """Every worker runs this function; `context` brings together what they do."""
    # Each worker takes its own points: every `world_size`-th, from its rank on.
    x, y = (tensor[context.rank :: context.world_size].to(context.device) for tensor in draw(1000, seed=1))
    val_x, val_y = (tensor.to(context.device) for tensor in draw(200, seed=2))
    network = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 1)).to(context.device)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)

    done = context.restore(network=network, optimizer=optimizer)
    for epoch in range(done + 1, (context.spec.epochs or 50) + 1):
        optimizer.zero_grad()
        loss = functional.mse_loss(network(x), y)
        loss.backward()
        context.average_gradients(network, num_samples=len(x))
        optimizer.step()
        with torch.no_grad():
            val_loss = functional.mse_loss(network(val_x), val_y)
        context.save(network=network, optimizer=optimizer)
        train_loss = context.mean(loss, num_samples=len(x))
        context.report(epoch=epoch, train_loss=train_loss, val_loss=context.mean(val_loss, num_samples=len(val_x)))
        if context.should_stop():
            break
