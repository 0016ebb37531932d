"""A training loop of your own over the network and the data of job.yaml. Every worker runs `train`."""

import torch
from torch import nn
from torch.nn import functional
from trana.trainer.context import Context, Shard


def train(context: Context) -> None:
    """Trains until the epochs are done, or someone asks to stop."""
    network = context.network()  # as job.yaml declares it, with the same weights on every worker
    replica = context.replicate(network)  # its gradients are those of all workers
    optimizer = torch.optim.AdamW(network.parameters(), lr=context.args["learning_rate"])

    # After an interruption, go on where the last checkpoint was made.
    done = context.restore(network=network, optimizer=optimizer)
    for epoch in range(done + 1, context.spec.epochs + 1):
        network.train()
        for batch in context.train.batches(epoch):
            pixels, digits = batch
            # Your own idea: pull the scores towards 0, beside the loss.
            scores = replica(pixels)
            loss = functional.cross_entropy(scores, digits) + context.args["decay"] * scores.square().mean()
            optimizer.zero_grad()
            # Workers may have one sample more or less: the weight makes every sample count alike.
            (loss * batch.weight).backward()
            optimizer.step()

        # Save first, then report: the report decides whether what was saved is the best so far.
        context.save(network=network, optimizer=optimizer)
        train_loss, _ = evaluate(network, context, context.train)
        val_loss, accuracy = evaluate(network, context, context.validation)
        context.report(epoch=epoch, train_loss=train_loss, val_loss=val_loss, metrics={"val_accuracy": accuracy})
        if context.should_stop():
            break


@torch.no_grad()
def evaluate(network: nn.Module, context: Context, shard: Shard) -> tuple[float, float]:
    """Returns loss and accuracy over the samples of all workers."""
    network.eval()
    part = shard.all()  # this worker's samples, each sample at one worker
    scores = network(part.features)
    loss = context.mean(functional.cross_entropy(scores, part.targets), num_samples=len(part))
    right = (scores.argmax(1) == part.targets).double().mean()
    return loss, context.mean(right, num_samples=len(part))
