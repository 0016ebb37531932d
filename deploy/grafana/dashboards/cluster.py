"""*Cluster*: who has the GPUs, who waits for them, how much is used and how much lies where nobody can use it."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard as d

from dashboards.panels import RAYS_OWN, board, figure, graph, not_stacked, rows

UID = "trana-cluster"
OPEN_JOB = ("Open the job", "/d/trana-job?var-job_id=${__value.text}&${datasource:queryparam}")
INFO = "max by (job_id, display_name, priority) (trana_job_info)"
HOLDS = "and on (job_id) (max by (job_id) (trana_job_workers) > 0)"


def per_job(name: str) -> str:
    """A job's gauge with the name that people gave it."""
    return f"max by (job_id) ({name}) * on (job_id) group_left (display_name) {INFO}"


def build() -> d.Dashboard:
    """The dashboard."""
    text = "Who has the cluster's GPUs and CPUs, who waits for them, and how well they are used."
    made = board(UID, "Trana / Cluster", text)
    _overview(made)
    _holders(made.with_row(d.Row("Who has it, who waits")))
    _shares(made)
    _use(made.with_row(d.Row("Use")))
    _rays(made.with_row(d.Row("Nodes, as Ray's exporter sees them")))
    return made


def _overview(made: d.Dashboard) -> None:
    made.with_panel(
        figure(
            "Cluster",
            "Whether the control plane's last try reached Ray. While it does not, jobs train on, and all numbers here "
            "are the last ones known.",
            ("min(trana_cluster_reachable)", ""),
            unit="short",
            names={"0": "UNREACHABLE", "1": "reached"},
            limits=[(1, "green")],
            base="red",
        )
    )
    made.with_panel(figure("Nodes", "Nodes that are alive.", ("sum(trana_cluster_nodes)", ""), unit="short"))
    made.with_panel(
        figure(
            "GPUs in use",
            "Share of the GPUs that jobs hold; empty where there are none.",
            ("sum(trana_cluster_gpus_allocated) / (sum(trana_cluster_gpus) > 0)", ""),
            unit="percentunit",
            base="blue",
        ).no_value("no GPUs")
    )
    made.with_panel(
        figure(
            "CPUs in use",
            "Share of the CPUs that jobs hold.",
            ("sum(trana_cluster_cpus_allocated) / (sum(trana_cluster_cpus) > 0)", ""),
            unit="percentunit",
            base="blue",
        )
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
            "Fragmentation",
            "Share of what is free that the largest waiting job cannot use where it lies; the worse of CPUs and GPUs.",
            ("max(trana_cluster_fragmentation_ratio)", ""),
            unit="percentunit",
            limits=[(0.3, "orange"), (0.6, "red")],
        )
    )


def _holders(made: d.Dashboard) -> None:
    made.with_panel(
        rows(
            "Who has it",
            "Jobs that hold workers now, those with most GPUs first; a click on a job opens it.",
            [
                ("", f"{INFO} {HOLDS}", ""),
                ("GPUs", f"max by (job_id) (trana_job_gpus) {HOLDS}", "short"),
                ("CPUs", f"max by (job_id) (trana_job_cpus) {HOLDS}", "short"),
                ("Workers", "max by (job_id) (trana_job_workers > 0)", "short"),
                (
                    "Training for",
                    f"time() - max by (job_id) (trana_job_start_timestamp_seconds) {HOLDS}",
                    "s",
                ),
            ],
            by="job_id",
            width=14,
            sort="GPUs",
            link=OPEN_JOB,
        )
    )
    made.with_panel(
        rows(
            "Who waits",
            "Jobs in QUEUED, those that have waited longest first.",
            [
                ("", f"{INFO} and on (job_id) max by (job_id) (trana_job_queued_timestamp_seconds)", ""),
                ("Waits for", "time() - max by (job_id) (trana_job_queued_timestamp_seconds)", "s"),
            ],
            by="job_id",
            width=10,
            sort="Waits for",
            link=OPEN_JOB,
        )
    )


def _shares(made: d.Dashboard) -> None:
    for resource, what in (("gpus", "GPUs"), ("cpus", "CPUs")):
        made.with_panel(
            graph(
                f"{what} by job",
                f"{what} that each job holds; the line on top of the areas is what the cluster has.",
                (f"{per_job(f'trana_job_{resource}')} > 0", "{{display_name}} {{job_id}}"),
                (f"sum(trana_cluster_{resource})", "total"),
                unit="short",
                stacked=True,
            ).override_by_name("total", not_stacked())
        )


def _use(made: d.Dashboard) -> None:
    for resource, what in (("gpus", "GPUs"), ("cpus", "CPUs")):
        made.with_panel(
            graph(
                f"{what} held and free",
                f"{what} that jobs hold and that none holds; the line is what the jobs in the queue ask for.",
                (f"sum(trana_cluster_{resource}_allocated)", "held"),
                (f"sum(trana_cluster_{resource}_free)", "free"),
                (f"sum(trana_queue_{resource})", "asked for"),
                unit="short",
                width=8,
                stacked=True,
            ).override_by_name("asked for", not_stacked())
        )
    made.with_panel(
        graph(
            "Fragmentation over time",
            "Share of what is free that the largest waiting job's workers cannot use where it is; 0 if none waits.",
            ("max by (resource) (trana_cluster_fragmentation_ratio)", "{{resource}}"),
            unit="percentunit",
            width=8,
        )
    )
    made.with_panel(
        graph(
            "Utilisation of GPUs by job",
            "Share of the time in which a kernel ran, mean over a job's workers at the end of each epoch. A job that "
            "holds GPUs and stays low waits for its data: look at where its steps' time goes.",
            (per_job("trana_job_gpu_utilization_ratio"), "{{display_name}} {{job_id}}"),
            unit="percentunit",
        )
    )
    made.with_panel(
        graph(
            "GPU memory by job",
            "Largest peak of any worker in the last epoch, as torch's allocator counts it.",
            (per_job("trana_job_gpu_memory_bytes"), "{{display_name}} {{job_id}}"),
            unit="bytes",
        )
    )


def _rays(made: d.Dashboard) -> None:
    for title, text, expr, unit in (
        (
            "CPU",
            "Share of each node's CPUs that is busy.",
            "avg by (instance) (ray_node_cpu_utilization) / 100",
            "percentunit",
        ),
        ("Memory", "Memory in use on each node.", "max by (instance) (ray_node_mem_used)", "bytes"),
        (
            "GPU",
            "Share of each node's GPUs that is busy, mean over them.",
            "avg by (instance) (ray_node_gpus_utilization) / 100",
            "percentunit",
        ),
        ("GPU memory", "GPU memory in use on each node.", "sum by (instance) (ray_node_gram_used) * 2 ^ 20", "bytes"),
    ):
        made.with_panel(graph(f"{title} of nodes", text + RAYS_OWN, (expr, "{{instance}}"), unit=unit, width=6))
