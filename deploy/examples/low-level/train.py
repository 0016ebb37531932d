"""The low level: no layers, no optimiser, no loss of a library. Tensors, autograd, and what all workers share."""

import torch
from torch import Tensor
from trana.trainer.context import Context, Shard


def softmax(scores: Tensor) -> Tensor:
    """Makes probabilities of scores, for each sample: all positive, with the sum 1."""
    powers = (scores - scores.max(dim=1, keepdim=True).values).exp()  # less the largest, so that none overflows
    return powers / powers.sum(dim=1, keepdim=True)


def cross_entropy(scores: Tensor, targets: Tensor) -> Tensor:
    """Returns the mean of -log(probability of the right class)."""
    right = softmax(scores)[torch.arange(len(targets), device=targets.device), targets]
    return -right.log().mean()


def forward(weights: dict[str, Tensor], features: Tensor) -> Tensor:
    """Two layers, by hand: matrix product, bias, tanh; matrix product, bias."""
    hidden = torch.tanh(features @ weights["w1"] + weights["b1"])
    return hidden @ weights["w2"] + weights["b2"]


def draw_weights(context: Context) -> dict[str, Tensor]:
    """Draws the weights: every worker begins with the same seed, and so has the same ones."""
    (inputs,), hidden, classes = context.input_shape, context.args["hidden"], len(context.classes)
    weights = {
        "w1": torch.randn(inputs, hidden) / inputs**0.5,
        "b1": torch.zeros(hidden),
        "w2": torch.randn(hidden, classes) / hidden**0.5,
        "b2": torch.zeros(classes),
    }
    return {name: value.to(context.device).requires_grad_() for name, value in weights.items()}


def train(context: Context) -> None:
    """Gradient descent with momentum, by hand."""
    rate, momentum = context.args["learning_rate"], context.args["momentum"]
    weights = draw_weights(context)
    velocity = {name: torch.zeros_like(value) for name, value in weights.items()}

    # `network` is what a checkpoint's weights are called: network.safetensors.
    done = context.restore(network=weights, velocity=velocity)
    for epoch in range(done + 1, context.spec.epochs + 1):
        for batch in context.train.batches(epoch):
            features, targets = batch
            for value in weights.values():
                value.grad = None
            cross_entropy(forward(weights, features), targets).backward()  # autograd finds all gradients
            # Now each worker has the gradients of its own samples; from here on all have those of the whole batch.
            context.average_gradients(weights.values(), num_samples=len(batch))
            with torch.no_grad():
                for name, value in weights.items():
                    velocity[name].mul_(momentum).add_(value.grad)
                    value.sub_(velocity[name], alpha=rate)

        context.save(network=weights, velocity=velocity)
        losses = [evaluate(weights, context, shard) for shard in (context.train, context.validation)]
        context.report(epoch=epoch, train_loss=losses[0], val_loss=losses[1], learning_rate=rate)
        if context.should_stop():
            break


@torch.no_grad()
def evaluate(weights: dict[str, Tensor], context: Context, shard: Shard) -> float:
    """Returns the loss over the samples of all workers."""
    part = shard.all()
    return context.mean(cross_entropy(forward(weights, part.features), part.targets), num_samples=len(part))
