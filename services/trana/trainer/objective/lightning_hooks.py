"""Which methods of a LightningModule are honoured, and what to do instead of those that are not.

Lightning's Trainer calls some sixty hooks. One that is overridden and never called would change the training without
a word: so it is refused.
"""

from typing import Any

from torch import nn

from trana.trainer.errors import UserError
from trana.v1 import training_pb2

_OPTIMISES = (
    "Trana makes the optimiser's steps: do it in an optimiser of your own that configure_optimizers returns, or write "
    "a loop (training.loop)"
)
_PASSES_BACK = "Trana makes the backward pass: do it in training_step, or write a loop (training.loop)"
_EVALUATES = "evaluate in validation_step (test_step) alone; what it gives to self.log is averaged over the split"
_MOVES = "batches are on the device already: change them in the step"
_KEEPS = "keep what must last in buffers (register_buffer), which checkpoints hold"
_BEGINS = "do it in setup or on_train_epoch_start"
_SWITCHES = "override train(mode) instead"

# Hooks that are not called, and the way to have what they are for.
_INSTEAD = {
    **dict.fromkeys(
        ("optimizer_step", "optimizer_zero_grad", "on_before_optimizer_step", "on_before_zero_grad"), _OPTIMISES
    ),
    "configure_gradient_clipping": "write training.clip_norm instead",
    "lr_scheduler_step": "return a scheduler of torch.optim.lr_scheduler from configure_optimizers",
    "configure_callbacks": "callbacks are not called; for early stopping write training.early_stopping",
    "configure_sharded_model": "write configure_model instead",
    **dict.fromkeys(("backward", "on_before_backward", "on_after_backward"), _PASSES_BACK),
    **dict.fromkeys(("on_save_checkpoint", "on_load_checkpoint"), _KEEPS),
    **dict.fromkeys(("transfer_batch_to_device", "on_before_batch_transfer", "on_after_batch_transfer"), _MOVES),
    **dict.fromkeys(("on_fit_start", "on_train_start"), _BEGINS),
    **dict.fromkeys(("on_fit_end", "on_train_end", "training_epoch_end"), "do it in on_train_epoch_end"),
    **dict.fromkeys(("on_train_batch_start", "on_train_batch_end", "training_step_end"), "do it in training_step"),
    **dict.fromkeys(
        (
            f"on_{split}_{point}"
            for split in ("validation", "test")
            for point in ("start", "end", "epoch_start", "epoch_end", "batch_start", "batch_end")
        ),
        _EVALUATES,
    ),
    **dict.fromkeys(("validation_epoch_end", "validation_step_end", "test_epoch_end", "test_step_end"), _EVALUATES),
    **dict.fromkeys(
        (f"on_{split}_model_{mode}" for split in ("validation", "test") for mode in ("eval", "train")), _SWITCHES
    ),
    "on_validation_model_zero_grad": _EVALUATES,
}


def check_module(spec: training_pb2.TrainingSpec, network: Any) -> None:
    """Checks that a LightningModule can be trained by the service's loop, and that nothing of it would be ignored.

    Raises:
        UserError: If not.
    """
    name = spec.module.entrypoint
    given = _given(spec)
    if given:
        message = f"training.{given[0]} is not used: {name} is a LightningModule, which brings its own; leave it out"
        raise UserError(message)
    if not network.automatic_optimization:
        raise UserError(
            f"{name} optimises by hand (automatic_optimization = False), which only its own loop can do: write one and "
            "name it in training.loop"
        )
    for step, why in {
        "training_step": "its loss is minimised",
        "validation_step": "by its loss the best is found",
    }.items():
        if not defines(network, step):
            raise UserError(f"{name} has no {step}, and needs one: {why}")
    if not defines(network, "configure_optimizers"):
        raise UserError(f"{name} has no configure_optimizers, and needs one: return an optimiser of torch.optim")
    for hook, instead in _INSTEAD.items():
        if defines(network, hook):
            raise UserError(f"{name} defines {hook}, which would not be called; {instead}")


def defines(network: nn.Module, method: str) -> bool:
    """Whether a module has a method that is not Lightning's own."""
    owner = next((parent for parent in type(network).__mro__ if method in vars(parent)), None)
    return owner is not None and owner.__module__.partition(".")[0] not in ("lightning", "pytorch_lightning")


def _given(spec: training_pb2.TrainingSpec) -> list[str]:
    messages = [field for field in ("loss", "optimizer", "schedule") if spec.HasField(field)]
    return messages + (["metrics"] if spec.metrics else [])
