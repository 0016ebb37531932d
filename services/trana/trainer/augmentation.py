"""Random changes of the samples of training steps, by torch's own generator, whose state checkpoints keep."""

import torch
from torch import Tensor
from torch.distributions import Beta

from trana.trainer.errors import UserError
from trana.trainer.feeding import Batch
from trana.trainer.objective.objective import Mix, Objective
from trana.v1 import training_pb2


class Augmentation:
    """Changes the samples of a rank's batch.

    Raises:
        UserError: If the objective takes no mixed samples, though the spec wants them.
    """

    def __init__(self, augmentation: training_pb2.Augmentation, objective: Objective) -> None:
        if augmentation.mixup_alpha and not objective.takes_mix:
            raise UserError(
                "training.augmentation.mixup_alpha mixes the losses of two targets, and this network computes its loss "
                "by itself; leave it out, and mix in your own training_step"
            )
        self._alpha = augmentation.mixup_alpha
        self._stddev = augmentation.noise_stddev

    def apply(self, batch: Batch) -> tuple[Batch, Mix | None]:
        """Returns a batch's samples as a step sees them, and how they were mixed, where they were.

        Raises:
            UserError: If the features are ids.
        """
        if not self._alpha and not self._stddev:
            return batch, None
        if not batch.features.is_floating_point():
            raise UserError("training.augmentation cannot change ids, and the features of this dataset are ids")
        features, mix = batch.features, None
        if self._alpha:
            features, mix = self._mixed(batch)
        if self._stddev:
            features = features + self._stddev * torch.randn_like(features)
        return Batch(features, batch.targets, batch.own, batch.total), mix

    def _mixed(self, batch: Batch) -> tuple[Tensor, Mix]:
        """Mixes each of the batch's own samples with another one of them (mixup, Zhang et al. 2018).

        Borrowed samples are left alone: they must not take part.
        """
        share = float(Beta(self._alpha, self._alpha).sample())
        partners = torch.arange(len(batch))
        partners[: batch.own] = torch.randperm(batch.own)
        partners = partners.to(batch.features.device)
        features = share * batch.features + (1 - share) * batch.features[partners]
        return features, Mix(batch.targets[partners], share)
