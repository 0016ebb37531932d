"""Jobs as they come out of a service, made by hand: what the report and the terminal have to tell.

Their verdicts are in the words of the trainer.
"""

import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path

from trana.client.report.material import Material
from trana.spec.read import parse_job
from trana.v1 import cause_pb2, checkpoint_pb2, epoch_pb2, event_pb2, fit_pb2, job_pb2, layer_pb2, report_pb2

BEGIN = 1_795_000_000
SPEC = """\
display_name: digits, a network too large
training:
  dataset:
    csv: {uri: /data/digits-60.csv}
    target: digit
    split: {fractions: {validation: 0.15, test: 0.15, seed: 3}}
    preprocessing: {scaling: min_max}
  network:
    layers:
      - linear: {out_features: 256}
      - relu
      - dropout: {p: 0.1}
      - linear: {out_features: 256}
      - relu
      - linear: {out_features: 10}
  loss: {cross_entropy: {label_smoothing: 0.05}}
  optimizer: {adamw: {learning_rate: 0.005, weight_decay: 0.01}}
  schedule: {cosine: {}}
  metrics: [accuracy, top_k: {k: 2}]
  epochs: 60
  global_batch_size: 64
  seed: 7
  early_stopping: {by: verdict}
resources: {num_workers: 2}
labels: {dataset: digits, team: vision}
"""


def make(
    train: Callable[[int], float],
    val: Callable[[int], float],
    epochs: int,
    *,
    verdict: fit_pb2.FitVerdict | None = None,
    state: str = "SUCCEEDED",
    spec: str = SPEC,
) -> Material:
    """Returns a job with the curve that two functions of the epoch give."""
    curve = [_epoch(number, train(number), val(number), epochs) for number in range(1, epochs + 1)]
    job = job_pb2.Job(
        name="jobs/digits-too-large",
        spec=parse_job(spec, base=Path("/"), source="digits.yaml"),
        state=job_pb2.JobState.Value(f"JOB_STATE_{state}"),
        attempt=1,
        epoch=epochs,
        num_parameters=85_002,
        num_train=60,
        num_validation=270,
        num_test=270,
        sequence=epochs + 4,
    )
    job.create_time.seconds = BEGIN
    job.start_time.seconds = BEGIN + 4
    if state in ("SUCCEEDED", "FAILED"):
        job.end_time.seconds = BEGIN + 4 + round(0.42 * epochs) + 1
    finite = [epoch for epoch in curve if math.isfinite(epoch.val_loss)]
    if finite:
        best = min(finite, key=lambda epoch: epoch.val_loss)
        job.best_epoch, job.best_val_loss = best.epoch, best.val_loss
    if verdict is not None:
        job.fit.CopyFrom(verdict)
    if epochs:
        job.layers.extend(_layers())
    return Material(job=job, epochs=curve, events=_events(job), checkpoints=_checkpoints(job))


def overfitting() -> Material:
    """A network with 1,400 times as many parameters as samples: turns at epoch 17."""
    noise = random.Random(4)
    rise = [noise.gauss(0, 0.012) for _ in range(61)]
    story = make(
        lambda t: 2.3 * math.exp(-t / 5) + 0.004 + abs(rise[t]) / 10,
        lambda t: 1.95 * math.exp(-t / 4.5) + 0.62 + 0.0125 * max(0, t - 16) + rise[t],
        44,
        verdict=fit_pb2.FitVerdict(
            label=fit_pb2.FIT_LABEL_OVERFITTING,
            epoch=44,
            onset_epoch=15,
            best_epoch=17,
            gap=0.9706,
            slopes=fit_pb2.FitSlopes(train=-0.0015, val=0.0115),
            confidence=0.93,
            evidence=[
                "Smoothed validation loss has risen 39 % (0.6832 to 0.9502) since epoch 17, the best one (it had "
                "hardly fallen since epoch 15), while smoothed training loss went on falling from 0.08267 to 0.005165.",
                "The rise is 5.7 paired standard errors over 270 validation samples: not chance.",
                "The rise is about 30 times what the loss jumps from epoch to epoch; of two epochs since the turn the "
                "later one is the worse in 98 % (Kendall's test).",
                "Smoothed validation loss is about 180 times training loss.",
            ],
            advice=[
                fit_pb2.FitAdvice(
                    remedy=fit_pb2.FIT_REMEDY_SMALLER_NETWORK,
                    text="Take a smaller network: 85,002 parameters for 60 training samples, 1,417 for each, can "
                    "repeat them instead of learning from them.",
                ),
                fit_pb2.FitAdvice(
                    remedy=fit_pb2.FIT_REMEDY_EARLY_STOPPING,
                    text="Stop early, by `early_stopping: {by: VERDICT}`: little was gained after epoch 15, and "
                    "nothing after epoch 17, the best one: the 27 epochs since then took 61 % of the training (11.3 "
                    "seconds) and made it worse. The checkpoint with the best validation loss is kept.",
                ),
                fit_pb2.FitAdvice(
                    remedy=fit_pb2.FIT_REMEDY_MORE_DATA,
                    text="Gather more than 60 training samples: the gap between smoothed validation and training "
                    "loss, 0.9451, is 99 % of validation loss, and more samples narrow it most surely.",
                ),
                fit_pb2.FitAdvice(
                    remedy=fit_pb2.FIT_REMEDY_WEIGHT_DECAY,
                    text="Add weight decay (or ten times as much, if there is some): it holds back the large weights "
                    "that noise needs.",
                ),
            ],
            epochs_since_best=27,
            wasted_seconds=11.3,
            wasted_share=0.61,
        ),
    )
    best = min(story.epochs, key=lambda epoch: epoch.val_loss)
    for epoch in story.epochs:
        epoch.val_loss_se = 0.0 if epoch is best else 0.01 + 0.0016 * abs(epoch.epoch - best.epoch)
    story.job.result.stop_reason = report_pb2.STOP_REASON_VERDICT
    story.job.result.best_epoch, story.job.result.best_val_loss = best.epoch, best.val_loss
    story.job.result.test_metrics.update({"test_loss": 0.6831, "test_accuracy": 0.8037, "test_top_2": 0.9185})
    story.job.warnings.append(
        "the network has 85,002 parameters for 60 training samples, 1,417 for each: it may learn them by heart; take "
        "fewer or narrower layers, add dropout or weight decay, or get more data, and write early_stopping: "
        "{by: VERDICT} to end the training when it overfits"
    )
    return story


def good() -> Material:
    """A network of the right size on all of the digits."""
    noise = random.Random(2)
    story = make(
        lambda t: 2.2 * math.exp(-t / 4) + 0.05 + noise.gauss(0, 0.001),
        lambda t: 2.2 * math.exp(-t / 4) + 0.09 + noise.gauss(0, 0.003),
        30,
        verdict=fit_pb2.FitVerdict(
            label=fit_pb2.FIT_LABEL_GOOD_FIT,
            epoch=30,
            best_epoch=28,
            gap=0.041,
            confidence=0.8,
            evidence=["Smoothed validation loss is at its lowest, 0.0896, and has levelled off."],
            epochs_since_best=2,
            wasted_seconds=0.84,
            wasted_share=0.067,
        ),
    )
    story.job.result.stop_reason = report_pb2.STOP_REASON_EPOCHS_DONE
    story.job.num_train = 1257
    return story


def diverged() -> Material:
    """A learning rate far too high: losses of 1 to 10^12, then none at all."""
    story = make(
        lambda t: math.nan if t == 13 else 0.9 * 10 ** max(0, t - 3),
        lambda t: math.nan if t == 13 else 1.1 * 10 ** (1.1 * max(0, t - 3)),
        13,
        state="FAILED",
        verdict=fit_pb2.FitVerdict(
            label=fit_pb2.FIT_LABEL_DIVERGED,
            epoch=13,
            best_epoch=1,
            gap=math.nan,
            confidence=1,
            evidence=["Training loss is not a number from epoch 13 on."],
            advice=[
                fit_pb2.FitAdvice(
                    remedy=fit_pb2.FIT_REMEDY_LOWER_LEARNING_RATE,
                    text="Lower the learning rate: a tenth of 10 is 1, or warm it up.",
                )
            ],
            epochs_since_best=12,
        ),
    )
    story.job.cause, story.job.message = cause_pb2.CAUSE_NOT_FINITE, "the loss became NaN in epoch 13"
    return story


def long(epochs: int = 100_000) -> Material:
    """A curve with far more epochs than a page has dots; one epoch sticks out."""
    noise = random.Random(1)
    return make(
        lambda t: 2 / (1 + t / 300) + noise.gauss(0, 0.02),
        lambda t: 9.0 if t == epochs // 3 else 2 / (1 + t / 300) + 0.4 + t / epochs + noise.gauss(0, 0.03),
        epochs,
        verdict=fit_pb2.FitVerdict(
            label=fit_pb2.FIT_LABEL_OVERFITTING, epoch=epochs, onset_epoch=8_123, best_epoch=7_700, confidence=0.99
        ),
    )


def _epoch(number: int, train: float, val: float, epochs: int) -> epoch_pb2.Epoch:
    epoch = epoch_pb2.Epoch(
        epoch=number,
        attempt=1,
        train_loss=train,
        val_loss=val,
        learning_rate=0.0025 * (1 + math.cos(math.pi * number / max(epochs, 1))),
        samples_per_second=3_200,
        duration_seconds=0.42,
        step=number * 20,
    )
    if abs(train) < 1e100 and abs(val) < 1e100:
        train, val = max(train, 0), max(val, 0)
        epoch.metrics.update({"train_accuracy": math.exp(-train / 2), "val_accuracy": math.exp(-val / 3)})
        epoch.metrics.update({"train_top_2": math.exp(-train / 4), "val_top_2": math.exp(-val / 8)})
    epoch.create_time.seconds = BEGIN + 4 + round(0.42 * number)
    return epoch


def _layers() -> Sequence[layer_pb2.BuiltLayer]:
    rows = [
        ("0", "Linear", 16_640, [256]),
        ("1", "ReLU", 0, [256]),
        ("2", "Dropout", 0, [256]),
        ("3", "Linear", 65_792, [256]),
        ("4", "ReLU", 0, [256]),
        ("5", "Linear", 2_570, [10]),
    ]
    return [
        layer_pb2.BuiltLayer(name=name, kind=kind, num_parameters=parameters, output_shape=shape)
        for name, kind, parameters, shape in rows
    ]


def _events(job: job_pb2.Job) -> list[event_pb2.Event]:
    steps = [(0, job_pb2.JOB_STATE_QUEUED), (2, job_pb2.JOB_STATE_STARTING), (4, job_pb2.JOB_STATE_RUNNING)]
    if job.HasField("end_time"):
        steps.append((job.end_time.seconds - BEGIN, job.state))
    events = []
    for number, (second, state) in enumerate(steps, 1):
        change = event_pb2.StateChange(to_state=state, attempt=min(job.attempt, number // 2), message=job.message)
        event = event_pb2.Event(sequence=number, state_change=change)
        event.create_time.seconds = BEGIN + second
        events.append(event)
    if job.fit.label:
        event = event_pb2.Event(sequence=len(events) + 1, fit=job.fit)
        event.create_time.seconds = BEGIN + 10
        events.insert(3, event)
    return events


def _checkpoints(job: job_pb2.Job) -> list[checkpoint_pb2.Checkpoint]:
    if not job.best_epoch:
        return []
    best = checkpoint_pb2.Checkpoint(
        name=f"{job.name}/checkpoints/best",
        kind=checkpoint_pb2.CHECKPOINT_KIND_BEST,
        epoch=job.best_epoch,
        val_loss=job.best_val_loss,
        uri=f"file:///home/ada/.trana/{job.name}/checkpoints/best",
        size_bytes=343_120,
        manifest_sha256="9f2c" * 16,
    )
    return [best]
