"""*Service*: the API by rate, errors and duration, the queue, the scheduler and the store."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard as d

from dashboards.panels import board, figure, graph, in_unit, on_the_right

UID = "trana-service"
# What is the service's own fault; NotFound or InvalidArgument are the caller's.
FAULTS = "Unknown|Internal|Unavailable|DataLoss|DeadlineExceeded"
# The scrape's names: prometheus.yml here, the Service's on Kubernetes, where trana-ray is Ray's.
SCOPE = 'job=~"trana(-jobs)?"'
RATE = "[$__rate_interval]"


def quantile(of: float, name: str, *, by: str = "", labels: str = "") -> str:
    """The quantile of a histogram over the panel's rate interval."""
    groups = f"le, {by}" if by else "le"
    return f"histogram_quantile({of}, sum by ({groups}) (rate({name}_bucket{{{labels}}}{RATE})))"


def quantiles(name: str, *, labels: str = "") -> tuple[tuple[str, str], ...]:
    """Half, 95 % and 99 % of what a histogram saw were quicker than these."""
    return tuple((quantile(of, name, labels=labels), f"{of * 100:g} %") for of in (0.5, 0.95, 0.99))


def build() -> d.Dashboard:
    """The dashboard."""
    text = "Whether Trana's control plane answers, decides and remembers as it should."
    made = board(UID, "Trana / Service", text)
    _overview(made)
    for row, parts in (
        ("API", (_calls, _streams)),
        ("Queue", (_queue, _flow)),
        ("Scheduler", (_scheduler,)),
        ("Store, checkpoints and process", (_store, _process)),
    ):
        made.with_row(d.Row(row))
        for part in parts:
            part(made)
    return made


def _overview(made: d.Dashboard) -> None:
    made.with_panel(
        figure(
            "Service",
            "Whether the last scrape of the control plane worked.",
            (f"min(up{{{SCOPE}}})", ""),
            unit="short",
            names={"0": "DOWN", "1": "up"},
            limits=[(1, "green")],
            base="red",
        )
    )
    made.with_panel(
        figure(
            "Version", "What is installed.", ("trana_build_info", "{{version}}"), unit="short", says="name", now=True
        )
    )
    errors = f'sum(rate(grpc_server_handled_total{{grpc_code=~"{FAULTS}"}}[5m]))'
    made.with_panel(
        figure(
            "Errors of the API",
            "Share of calls in the last five minutes that failed by the service's own fault; 5 % raise TranaApiErrors.",
            # No failed call yet is no series yet: then the share is 0, not unknown.
            (f"({errors} or vector(0)) / (sum(rate(grpc_server_handled_total[5m])) > 0)", ""),
            unit="percentunit",
            limits=[(0.01, "orange"), (0.05, "red")],
        ).no_value("no calls")
    )
    made.with_panel(
        figure("Jobs running", "Jobs whose workers step.", ('sum(trana_jobs{state="RUNNING"})', ""), unit="short")
    )
    made.with_panel(
        figure(
            "Jobs waiting",
            "Jobs in QUEUED, of all priorities.",
            ("sum(trana_queue_length)", ""),
            unit="short",
            base="blue",
        )
    )
    made.with_panel(
        figure(
            "Since the last turn",
            "Seconds since the controller last observed, decided and saved; it does so at least each second. "
            "A minute raises TranaControllerStalled.",
            ("time() - max(trana_controller_last_turn_timestamp_seconds)", ""),
            unit="s",
            limits=[(15, "orange"), (60, "red")],
        )
    )


def _calls(made: d.Dashboard) -> None:
    made.with_panel(
        graph(
            "Calls",
            "Calls that ended, each second, by method.",
            (f"sum by (grpc_method) (rate(grpc_server_handled_total{RATE}))", "{{grpc_method}}"),
            unit="reqps",
            width=8,
            stacked=True,
        )
    )
    made.with_panel(
        graph(
            "Calls that failed",
            "By code and method. InvalidArgument and NotFound are the caller's mistakes; "
            "Internal, Unknown and Unavailable are ours.",
            (
                f'sum by (grpc_code, grpc_method) (rate(grpc_server_handled_total{{grpc_code!="OK"}}{RATE}))',
                "{{grpc_code}} {{grpc_method}}",
            ),
            unit="reqps",
            width=8,
            stacked=True,
        )
    )
    made.with_panel(
        graph(
            "Duration of calls",
            "Half, 95 % and 99 % of the calls with one answer took less. Streams are left out: they last as long as "
            "somebody watches.",
            *quantiles("grpc_server_handling_seconds", labels='grpc_type="unary"'),
            unit="s",
            width=8,
            exemplars=True,
        )
    )
    made.with_panel(
        graph(
            "Duration by method",
            "95 % of the calls of each method took less.",
            (
                quantile(0.95, "grpc_server_handling_seconds", by="grpc_method", labels='grpc_type="unary"'),
                "{{grpc_method}}",
            ),
            unit="s",
            width=8,
        )
    )


def _streams(made: d.Dashboard) -> None:
    made.with_panel(
        graph(
            "Watchers",
            "Streams of WatchJob that are open, and messages that went out each second.",
            ("sum(trana_watchers)", "open streams"),
            (f"sum(rate(grpc_server_msg_sent_total{RATE}))", "messages per second"),
            unit="short",
            width=8,
        )
    )
    made.with_panel(
        graph(
            "Lag of events",
            "From the recording of an event to its hand-over to a watcher's stream; replayed history is not counted.",
            *quantiles("trana_event_lag_seconds"),
            unit="s",
            width=8,
        )
    )


def _queue(made: d.Dashboard) -> None:
    made.with_panel(
        graph(
            "Waiting jobs",
            "Jobs in QUEUED by priority: low is 0 to 33, normal to 66, high to 100.",
            ("sum by (priority) (trana_queue_length)", "{{priority}}"),
            unit="short",
            width=8,
            stacked=True,
        )
    )
    made.with_panel(
        graph(
            "Longest wait",
            "How long the job that has waited longest has been waiting, by priority.",
            ("max by (priority) (trana_queue_oldest_wait_seconds)", "{{priority}}"),
            unit="s",
            width=8,
        )
    )
    made.with_panel(
        graph(
            "Wait until the start",
            "From acceptance to the start of the first attempt: 95 % of the jobs waited less, by priority.",
            (quantile(0.95, "trana_queue_wait_seconds", by="priority"), "{{priority}}"),
            unit="s",
            width=8,
            exemplars=True,
        )
    )


def _flow(made: d.Dashboard) -> None:
    made.with_panel(
        graph(
            "Submission to first step",
            "From acceptance to the first optimiser step, waiting included.",
            *quantiles("trana_submit_to_first_step_seconds"),
            unit="s",
            width=8,
            exemplars=True,
        )
    )
    made.with_panel(
        graph(
            "Jobs by state",
            "Jobs that have not ended, by state.",
            (
                'sum by (state) (trana_jobs{state=~"QUEUED|STARTING|RUNNING|PAUSING|PAUSED|CANCELLING"})',
                "{{state}}",
            ),
            unit="short",
            width=8,
            stacked=True,
        )
    )
    made.with_panel(
        graph(
            "Jobs in and out",
            "Jobs accepted and jobs ended each minute; where the first stays above the second, the queue grows.",
            (f"60 * sum(rate(trana_jobs_submitted_total{RATE}))", "accepted"),
            (f"60 * sum by (state) (rate(trana_jobs_ended_total{RATE}))", "{{state}}"),
            unit="cpm",
            width=8,
        )
    )


def _scheduler(made: d.Dashboard) -> None:
    made.with_panel(
        graph(
            "Duration of a decision",
            "One decision over the whole queue: computing alone, nothing is awaited.",
            *quantiles("trana_decision_seconds"),
            unit="s",
            width=8,
        )
    )
    made.with_panel(
        graph(
            "Duration of a turn",
            "One turn of the controller: it observes, decides and saves.",
            *quantiles("trana_controller_turn_seconds"),
            unit="s",
            width=8,
        )
    )
    made.with_panel(
        graph(
            "Turns",
            "Turns of the controller each second; one is abandoned when the store does not answer.",
            (f"sum by (result) (rate(trana_controller_turns_total{RATE}))", "{{result}}"),
            unit="ops",
            width=8,
            stacked=True,
        )
    )
    made.with_panel(
        graph(
            "Attempts started and ended",
            "Each minute; NONE is a good end.",
            (f"60 * sum(rate(trana_attempts_started_total{RATE}))", "started"),
            (f"60 * sum by (cause) (rate(trana_attempts_ended_total{RATE})) > 0", "ended: {{cause}}"),
            unit="cpm",
            width=12,
        )
    )
    made.with_panel(
        graph(
            "Restarts and preemptions",
            "Each minute: attempts after whose end the job went back to the queue, by cause; and those that urgent "
            "jobs ended.",
            (f"60 * sum by (cause) (rate(trana_restarts_total{RATE}))", "{{cause}}"),
            (f"60 * sum(rate(trana_preemptions_total{RATE}))", "preempted"),
            unit="cpm",
            width=12,
        )
    )


def _store(made: d.Dashboard) -> None:
    made.with_panel(
        graph(
            "Operations of the store",
            "Each second, by operation; a transaction and its fsync are one.",
            (f"sum by (operation) (rate(trana_store_operation_seconds_count{RATE}))", "{{operation}}"),
            unit="ops",
            width=8,
            stacked=True,
        )
    )
    made.with_panel(
        graph(
            "Duration of operations",
            "95 % of the store's operations took less, by operation.",
            (quantile(0.95, "trana_store_operation_seconds", by="operation"), "{{operation}}"),
            unit="s",
            width=8,
        )
    )
    made.with_panel(
        graph(
            "Errors of the store",
            "Operations that failed each second because the database did not answer.",
            (f"sum by (operation) (rate(trana_store_errors_total{RATE}))", "{{operation}}"),
            unit="ops",
            width=8,
        )
    )


def _process(made: d.Dashboard) -> None:
    made.with_panel(
        graph(
            "Duration of checkpoints",
            "95 % were written, verified and published in less.",
            (quantile(0.95, "trana_checkpoint_seconds", by="kind"), "{{kind}}"),
            (f"60 * sum(rate(trana_checkpoint_failures_total{RATE}))", "attempts that failed for it"),
            unit="s",
            width=8,
        ).override_by_name("attempts that failed for it", in_unit("cpm"))
    )
    made.with_panel(
        graph(
            "Checkpoints written",
            "Bytes of checkpoints each second, by kind.",
            (f"sum by (kind) (rate(trana_checkpoint_bytes_sum{RATE}))", "{{kind}}"),
            unit="Bps",
            width=8,
            stacked=True,
        )
    )
    made.with_panel(
        graph(
            "Process",
            "CPU and memory of the control plane; its memory has to stay flat however many jobs have passed.",
            (f"sum(rate(process_cpu_seconds_total{{{SCOPE}}}{RATE}))", "CPUs"),
            (f"sum(process_resident_memory_bytes{{{SCOPE}}})", "memory"),
            unit="short",
            width=8,
        ).override_by_name("memory", [*in_unit("bytes"), *on_the_right()])
    )
