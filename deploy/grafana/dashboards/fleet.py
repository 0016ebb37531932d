"""*Fleet*: all jobs at once: which overfit now, what was wasted, and why jobs fail."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard as d

from dashboards.cluster import INFO, OPEN_JOB
from dashboards.panels import board, figure, graph, rows, variable

UID = "trana-fleet"
# A job's series outlive it by a minute: what is over cannot be helped any more.
LIVES = 'unless on (job_id) trana_job_state{state=~"SUCCEEDED|FAILED|CANCELLED"}'
RUNS = 'and on (job_id) trana_job_state{state="RUNNING"}'
OVERFITS = f'max by (job_id) (trana_job_fit{{verdict="OVERFITTING"}} == 1 {RUNS})'
CHOSEN = 'max by (job_id) (trana_job_state{state=~"$state"} == 1)'
RANGE = "[$__range]"
WASTED = "trana_wasted_worker_seconds_total"
# Of live jobs: each of their workers has spent these seconds.
LIVE_WASTE = "max by (job_id) (trana_job_wasted_seconds) * on (job_id) max by (job_id) (trana_job_workers)"


def build() -> d.Dashboard:
    """The dashboard."""
    state = variable("state", "State", "label_values(trana_job_state, state)", many=True)
    text = "All jobs: which overfit now, what compute was spent after the best epoch, and why jobs fail."
    made = board(UID, "Trana / Fleet", text, variables=[state], since="now-6h")
    _overview(made)
    _fit(made.with_row(d.Row("Fit")))
    _waste(made.with_row(d.Row("Compute spent after the best epoch")))
    _failures(made.with_row(d.Row("Failures")))
    _jobs(made.with_row(d.Row("Jobs")))
    return made


def _overview(made: d.Dashboard) -> None:
    for title, text, expr, unit, limits in (
        (
            "Live jobs",
            "Jobs that have not ended.",
            'sum(trana_jobs{state=~"QUEUED|STARTING|RUNNING|PAUSING|PAUSED|CANCELLING"})',
            "short",
            [],
        ),
        (
            "Overfit now",
            "Running jobs whose verdict is OVERFITTING.",
            f"count({OVERFITS}) or vector(0)",
            "short",
            [(1, "orange")],
        ),
        (
            "Diverged now",
            "Live jobs whose verdict is DIVERGED.",
            f'count(trana_job_fit{{verdict="DIVERGED"}} == 1 {LIVES}) or vector(0)',
            "short",
            [(1, "red")],
        ),
        (
            "Wasted",
            "Share of the compute of the time range that jobs, which have ended, spent after their best epoch.",
            f"sum(increase({WASTED}{RANGE})) / (sum(increase(trana_worker_seconds_total{RANGE})) > 0)",
            "percentunit",
            [(0.2, "orange"), (0.5, "red")],
        ),
        (
            "Failed jobs",
            "Jobs that failed in the time range.",
            f'sum(increase(trana_jobs_ended_total{{state="FAILED"}}{RANGE}))',
            "short",
            [(1, "orange")],
        ),
        (
            "Alerts",
            "Alerts of Trana that fire now.",
            'count(ALERTS{alertname=~"Trana.*", alertstate="firing"}) or vector(0)',
            "short",
            [(1, "red")],
        ),
    ):
        made.with_panel(
            figure(title, text, (expr, ""), unit=unit, limits=limits, now="$__range" in expr)
            .no_value("none")
            .decimals(0 if unit == "short" else 1)
        )


def _fit(made: d.Dashboard) -> None:
    made.with_panel(
        rows(
            "Which overfit now",
            "Running jobs that overfit, those that have wasted most first; a click on a job opens its learning curve.",
            [
                ("", f"{INFO} and on (job_id) {OVERFITS}", ""),
                *(
                    (heading, f"max by (job_id) (trana_job_{name}) and on (job_id) {OVERFITS}", unit)
                    for heading, name, unit in (
                        ("Onset epoch", "onset_epoch", "short"),
                        ("Best epoch", "best_epoch", "short"),
                        ("Epochs since", "epochs_since_best", "short"),
                        ("Seconds since", "wasted_seconds", "s"),
                        ("Gap", "generalization_gap", "short"),
                        ("Confidence", "fit_confidence_ratio", "percentunit"),
                        ("Workers", "workers", "short"),
                    )
                ),
            ],
            by="job_id",
            width=24,
            sort="Seconds since",
            link=OPEN_JOB,
        )
    )
    made.with_panel(
        graph(
            "Verdicts of live jobs",
            "Live jobs that have a verdict, by verdict.",
            (f"sum by (verdict) (trana_job_fit {LIVES})", "{{verdict}}"),
            unit="short",
            stacked=True,
        )
    )
    made.with_panel(
        graph(
            "Verdicts of ended jobs",
            "Jobs that ended each minute, by their last verdict.",
            ("60 * sum by (verdict) (rate(trana_jobs_judged_total[$__rate_interval]))", "{{verdict}}"),
            unit="cpm",
            stacked=True,
        )
    )


def _waste(made: d.Dashboard) -> None:
    made.with_panel(
        graph(
            "Wasted by jobs that ended",
            "Workers times seconds after the best epoch, by last verdict, in the hour before. With "
            "early stopping by the verdict it would not have been spent.",
            ("sum by (verdict) (increase(trana_wasted_worker_seconds_total[1h]))", "{{verdict}}"),
            unit="s",
            width=8,
            stacked=True,
        )
    )
    made.with_panel(
        graph(
            "Wasted by live jobs",
            "Workers times seconds since the best epoch, of jobs that overfit now: the ten worst.",
            (
                f"topk(10, {LIVE_WASTE} and on (job_id) {OVERFITS})",
                "{{job_id}}",
            ),
            unit="s",
            width=8,
            stacked=True,
        )
    )
    made.with_panel(
        graph(
            "Compute of attempts",
            "Workers times seconds of attempts that ended in the hour before, and what of it came after the "
            "best epoch.",
            ("sum(increase(trana_worker_seconds_total[1h]))", "all"),
            ("sum(increase(trana_wasted_worker_seconds_total[1h]))", "after the best epoch"),
            unit="s",
            width=8,
        )
    )


def _failures(made: d.Dashboard) -> None:
    for title, text, expr in (
        (
            "Failed jobs by cause",
            "Jobs that failed each minute, by cause. USER_ERROR and DATA_ERROR are the submitter's to mend, the "
            "others the operator's.",
            '60 * sum by (cause) (rate(trana_jobs_ended_total{state="FAILED", cause!="NONE"}[$__rate_interval]))',
        ),
        (
            "Attempts by cause of their end",
            "Attempts that ended badly each minute; most causes are retried.",
            '60 * sum by (cause) (rate(trana_attempts_ended_total{cause!="NONE"}[$__rate_interval]))',
        ),
        (
            "Restarts by cause",
            "Attempts after whose end the job went back to the queue, each minute.",
            '60 * sum by (cause) (rate(trana_restarts_total{cause!="NONE"}[$__rate_interval]))',
        ),
    ):
        made.with_panel(graph(title, text, (expr, "{{cause}}"), unit="cpm", width=8, stacked=True))


def _jobs(made: d.Dashboard) -> None:
    made.with_panel(
        rows(
            "Jobs in the chosen states",
            "Live jobs, and those that ended in the last minute; a click on a job opens it.",
            [
                ("", f"{INFO} and on (job_id) {CHOSEN}", ""),
                ("", 'max by (job_id, state) (trana_job_state{state=~"$state"} == 1)', ""),
                ("", f"max by (job_id, verdict) (trana_job_fit == 1) and on (job_id) {CHOSEN}", ""),
                *(
                    (heading, f"max by (job_id) (trana_job_{name}) and on (job_id) {CHOSEN}", unit)
                    for heading, name, unit in (
                        ("Epoch", "epoch", "short"),
                        ("Training loss", "train_loss", "short"),
                        ("Validation loss", "val_loss", "short"),
                        ("Best", "best_val_loss", "short"),
                        ("Samples/s", "samples_per_second", "short"),
                        ("Workers", "workers", "short"),
                        ("Attempt", "attempt", "short"),
                    )
                ),
            ],
            by="job_id",
            height=12,
            link=OPEN_JOB,
        )
    )
    made.with_panel(
        graph(
            "Throughput of the fleet",
            "Training samples each second over all live jobs.",
            ("sum(trana_job_samples_per_second)", "samples per second"),
            unit="short",
        )
    )
    made.with_panel(
        graph(
            "Epochs",
            "Epochs that all jobs trained each minute; and live jobs without series here, because more than a "
            "thousand live.",
            ("60 * sum(rate(trana_epochs_total[$__rate_interval]))", "epochs"),
            ("sum(trana_jobs_without_series)", "jobs without series"),
            unit="cpm",
        )
    )
