"""*Job*: one job's learning curve with its turn, its verdict, and where its time goes."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard as d

from dashboards.panels import board, figure, graph, in_unit, mark, on_the_right, timeline, variable

UID = "trana-job"
ONE = '{job_id="$job_id"}'


def of_job(name: str, *more: str) -> str:
    """The job's gauge, whichever process of the service it was scraped from."""
    return f"max by ({', '.join(('job_id', *more))}) (trana_job_{name}{ONE})"


def last(name: str) -> str:
    """Its last value in the time range, also of a job that has ended since."""
    return f"max(last_over_time(trana_job_{name}{ONE}[$__range] @ end()))"


def build() -> d.Dashboard:
    """The dashboard."""
    job = variable("job_id", "Job", "label_values(trana_job_info, job_id)")
    text = "One job: how it learns, since when it overfits, how fast it is and where a step's time goes."
    made = board(UID, "Trana / Job", text, variables=[job])
    made.annotation(
        mark(
            "Best epoch",
            f"{last('best_epoch_timestamp_seconds')} * 1000",
            text="The lowest validation loss so far: this is the checkpoint that is kept.",
            colour="green",
        )
    )
    made.annotation(
        mark(
            "Overfitting was seen",
            f"{last('onset_timestamp_seconds')} * 1000",
            text="From here on the verdict says OVERFITTING; the figure of the onset names the epoch of the turn.",
            colour="orange",
        )
    )
    _overview(made)
    _learning(made.with_row(d.Row("Learning")))
    _verdict(made)
    _speed(made.with_row(d.Row("Speed")))
    _progress(made)
    _resources(made.with_row(d.Row("Resources and checkpoints")))
    return made


def _overview(made: d.Dashboard) -> None:
    made.with_panel(
        figure(
            "State",
            "State of the job now; it stays for a minute after the end.",
            (f"{of_job('state', 'state')} == 1", "{{state}}"),
            unit="short",
            width=3,
            says="name",
            now=True,
        ).no_value("ended")
    )
    made.with_panel(
        figure(
            "Verdict",
            "What the learning curve says of the fit, at the end of the time range.",
            (f"max by (verdict) (last_over_time(trana_job_fit{ONE}[$__range] @ end())) == 1", "{{verdict}}"),
            unit="short",
            width=4,
            says="name",
        ).no_value("none yet")
    )
    for title, text, name, unit in (
        ("Epoch", "Epochs done.", "epoch", "short"),
        ("Best epoch", "Epoch with the lowest validation loss: its checkpoint is kept.", "best_epoch", "short"),
        ("Best validation loss", "The loss at that epoch, a mean per sample.", "best_val_loss", "short"),
        ("Onset", "Epoch since which it overfits.", "onset_epoch", "short"),
        ("Since the best", "Epochs since the best one.", "epochs_since_best", "short"),
        ("Spent since the best", "Seconds of training after the best epoch.", "wasted_seconds", "s"),
    ):
        made.with_panel(
            figure(
                title, text, (last(name), ""), unit=unit, width=3 if unit == "s" or title != "Epoch" else 2, base="blue"
            ).no_value("none")
        )


def _learning(made: d.Dashboard) -> None:
    made.with_panel(
        graph(
            "Learning curve",
            "Loss per sample after each epoch, both in evaluation mode. Where training falls and validation rises, the "
            "network learns its samples by heart. The green line marks the best epoch, the orange one the moment at "
            "which overfitting was seen.",
            (of_job("train_loss"), "training"),
            (of_job("val_loss"), "validation"),
            (of_job("best_val_loss"), "best validation"),
            unit="short",
            width=16,
            height=11,
        )
    )
    made.with_panel(
        graph(
            "Generalisation gap",
            "Validation loss less training loss. A gap alone is no harm; one that grows as validation loss rises is.",
            (of_job("generalization_gap"), "gap"),
            unit="short",
            width=8,
            height=11,
        )
    )


def _verdict(made: d.Dashboard) -> None:
    made.with_panel(
        timeline(
            "Verdict over time",
            "What the curve said of the fit, and when.",
            (of_job("fit", "verdict"), "{{verdict}}"),
            width=16,
            height=7,
        )
    )
    made.with_panel(
        graph(
            "Confidence and epochs since the best",
            "How sure the verdict is, and how many epochs brought nothing better.",
            (of_job("fit_confidence_ratio"), "confidence"),
            (of_job("epochs_since_best"), "epochs since the best"),
            unit="percentunit",
            width=8,
            height=7,
        ).override_by_name("epochs since the best", [*in_unit("short"), *on_the_right()])
    )
    made.with_panel(
        graph(
            "Learning rate",
            "Of the last step.",
            (of_job("learning_rate"), "learning rate"),
            unit="sci",
            width=12,
            height=7,
        )
    )
    made.with_panel(
        graph(
            "Gradient norm",
            "Of the whole gradient at an epoch's last step, before clipping. One that grows from epoch to epoch comes "
            "before a divergence.",
            (of_job("gradient_norm"), "gradient norm"),
            unit="short",
            width=12,
            height=7,
        )
    )


def _speed(made: d.Dashboard) -> None:
    parts = of_job("step_seconds", "part")
    made.with_panel(
        graph(
            "Throughput",
            "Training samples each second over all workers, evaluation left out.",
            (of_job("samples_per_second"), "samples per second"),
            unit="short",
            width=8,
        )
    )
    made.with_panel(
        graph(
            "Where a step's time goes",
            "Mean of the last epoch's steps. data: waiting for a batch; communication: exchange of gradients that the "
            " backward pass does not hide, and waiting for slower workers; checkpoint: saving, spread over the "
            "steps; compute: all else.",
            (parts, "{{part}}"),
            unit="s",
            width=8,
            stacked=True,
        )
    )
    made.with_panel(
        graph(
            "Share of a step",
            "The same as shares. Much data: more loader workers or another format; much communication: fewer or closer "
            "workers, larger batches.",
            (
                f"{parts} / ignoring (part) group_left sum by (job_id) ({parts})",
                "{{part}}",
            ),
            unit="percentunit",
            width=8,
            stacked=True,
        )
    )


def _progress(made: d.Dashboard) -> None:
    made.with_panel(
        graph(
            "Duration of epochs",
            "Wall time of the last epoch, and how much of it was evaluation.",
            (of_job("epoch_seconds"), "epoch"),
            (of_job("evaluation_seconds"), "evaluation"),
            unit="s",
            width=8,
        )
    )
    made.with_panel(
        graph(
            "Progress",
            "Epochs done of those asked for; a job may stop before.",
            (of_job("epoch"), "epochs done"),
            (of_job("epochs"), "epochs asked for"),
            (of_job("step"), "steps"),
            unit="short",
            width=8,
        ).override_by_name("steps", on_the_right())
    )
    made.with_panel(
        graph(
            "Since the last step",
            "Seconds since a step was last heard of, while the job runs; ten minutes raise TranaJobHung.",
            (f"time() - {of_job('last_step_timestamp_seconds')}", "since the last step"),
            unit="s",
            width=8,
        )
    )


def _resources(made: d.Dashboard) -> None:
    made.with_panel(
        graph(
            "Workers, CPUs, GPUs and attempt",
            "What the job holds, and the number of its attempt: each step up is a restart.",
            (of_job("workers"), "workers"),
            (of_job("cpus"), "CPUs"),
            (of_job("gpus"), "GPUs"),
            (of_job("attempt"), "attempt"),
            unit="short",
            width=8,
        )
    )
    made.with_panel(
        graph(
            "GPU",
            "Share of the time in which a kernel ran, mean over the workers, and the largest peak of memory.",
            (of_job("gpu_utilization_ratio"), "utilisation"),
            (of_job("gpu_memory_bytes"), "memory"),
            unit="percentunit",
            width=8,
        ).override_by_name("memory", [*in_unit("bytes"), *on_the_right()])
    )
    made.with_panel(
        graph(
            "Checkpoints",
            "Seconds to write, verify and publish the last one of each kind, and its size.",
            (of_job("checkpoint_seconds", "kind"), "{{kind}}: seconds"),
            (of_job("checkpoint_bytes", "kind"), "{{kind}}: bytes"),
            unit="s",
            width=8,
        ).override_by_regexp("/bytes/", [*in_unit("bytes"), *on_the_right()])
    )
