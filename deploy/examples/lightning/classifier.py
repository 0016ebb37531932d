"""A LightningModule: its own loss, optimiser and schedule are honoured; no Trainer of Lightning's is needed."""

import lightning
import torch
from torch import Tensor, nn
from torch.nn import functional

Batch = tuple[Tensor, Tensor]


class Classifier(lightning.LightningModule):
    """Tells digits from their pixels."""

    def __init__(self, input_shape: tuple[int, ...], num_classes: int, width: int, learning_rate: float) -> None:
        super().__init__()
        self.learning_rate = learning_rate
        self.layers = nn.Sequential(nn.Linear(input_shape[0], width), nn.ReLU(), nn.Linear(width, num_classes))

    def forward(self, pixels: Tensor) -> Tensor:
        """Returns a score for each class, of shape (samples, 10)."""
        return self.layers(pixels)

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:  # noqa: ARG002 - Lightning gives it
        """Returns the mean loss over this worker's samples of a batch."""
        pixels, digits = batch
        return functional.cross_entropy(self(pixels), digits)

    def validation_step(self, batch: Batch, batch_index: int) -> None:  # noqa: ARG002 - Lightning gives it
        """Logs what is measured; Trana averages over all samples of all workers. The best has the least val_loss."""
        pixels, digits = batch
        scores = self(pixels)
        self.log("val_loss", functional.cross_entropy(scores, digits))
        self.log("val_accuracy", (scores.argmax(1) == digits).double().mean())

    def configure_optimizers(self) -> dict[str, object]:
        """Returns the optimiser, and a schedule that moves with every step."""
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.learning_rate)
        steps = self.trainer.estimated_stepping_batches
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.learning_rate, total_steps=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
