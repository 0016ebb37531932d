"""Measures a checkpoint on samples that it was not trained on."""

from trana.trainer.data.raw import read_raw
from trana.trainer.evaluation import Evaluator
from trana.trainer.feeding import feed_of
from trana.trainer.measures import Measures
from trana.trainer.place import Place
from trana.trainer.scoring.checkpoint import Trained
from trana.trainer.scoring.rebuilding import code_of, rebuild_objective

_SPLIT = "test"


def evaluate(trained: Trained, uri: str, place: Place, *, allow_code: bool) -> dict[str, float]:
    """Measures loss and metrics on a whole file, as the service does on a split.

    Samples are evaluated in the same chunks, so that the file of a validation split gives the validation loss of the
    checkpoint's epoch; its last bits may depend on the number of threads.

    Args:
        trained: The checkpoint.
        uri: Of the file; its target column must be there.
        place: Of this process alone.
        allow_code: Whether code of the checkpoint may run.

    Returns:
        The number of samples `n`, the `loss`, and the measures of the spec, by name.

    Raises:
        TrainingError: If the data do not fit, or the network cannot be made.
    """
    samples = read_raw(trained.spec.dataset, uri, trained.prepared(), trained.classes, with_target=True)
    with code_of(trained, allow_code=allow_code):
        objective = rebuild_objective(trained, samples).to(place.device)
        measures = Measures(trained.spec, objective.declared_loss, len(trained.classes))
        feed = feed_of(samples, seed=trained.spec.seed, place=place)
        found = Evaluator(measures, place).evaluate(objective, feed, _SPLIT)
    metrics = {name.removeprefix(f"{_SPLIT}_"): value for name, value in sorted(found.metrics.items())}
    return {"n": len(samples), "loss": found.loss, **metrics}
