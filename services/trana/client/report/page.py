"""The page: everything put into the template, which escapes whatever users have written."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib.metadata import version

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from trana.client.report import curves, facts, verdict
from trana.client.report.charts import Chart, ScaleName
from trana.client.report.drawing import LOW, LOW_NARROW, NARROW, SMALL, WIDE, Frame, draw
from trana.client.report.happenings import happenings
from trana.client.report.layers import layer_rows
from trana.client.report.material import Material
from trana.client.report.spec_text import to_yaml
from trana.client.words import fit_name, has_verdict, job_id, reason, state_name
from trana.v1 import job_pb2

# A spec with 100,000 names of columns would be most of the page.
_MOST_YAML = 60_000
_MOST_MESSAGE = 8_000


@dataclass(frozen=True, slots=True)
class Drawing:
    """One drawing of a chart, and whether it is the one to begin with."""

    svg: Markup
    scale: ScaleName
    is_shown: bool


def render(material: Material, *, now: datetime) -> str:
    """Returns the report of a job: one page of HTML that needs no network and no other file.

    Args:
        material: The job, its curve and its events.
        now: When it is written, with a time zone.
    """
    job = material.job
    charts, left_out = curves.measures(material)
    page = _environment().get_template("page.html.j2")
    return page.render(
        job=job,
        identity=job_id(job.name),
        state=state_name(job.state),
        has_succeeded=job.state == job_pb2.JOB_STATE_SUCCEEDED,
        why=_cut(reason(job), _MOST_MESSAGE),
        is_judged=has_verdict(job),
        label=fit_name(job.fit.label),
        tone=verdict.tone(job),
        said=verdict.say(material),
        said_more=verdict.say_more(job),
        advice=verdict.advice(job),
        figures=facts.key_figures(material),
        curve=curves.learning_curve(material) if material.epochs else None,
        gap=curves.gap_curve(material),
        key_epochs=facts.key_epochs(material),
        measures=charts,
        measures_left_out=left_out,
        layers=layer_rows(job),
        data=facts.data(job),
        shares=facts.shares(job),
        training=facts.training(job.spec.training),
        time=facts.time(material),
        happenings=happenings(material.events),
        spec=_cut(to_yaml(job.spec), _MOST_YAML),
        commands=_commands(job),
        versions=facts.versions(material, version("trana")),
        version=version("trana"),
        now=f"{now:%Y-%m-%d %H:%M:%S %Z}",
        large=lambda chart: _drawings(chart, chart.scales, WIDE, NARROW),
        low=lambda chart: _drawings(chart, ["linear"], LOW, LOW_NARROW),
        small=lambda chart: _drawings(chart, ["linear"], SMALL),
    )


def _drawings(chart: Chart, scales: Sequence[ScaleName], *frames: Frame) -> list[Drawing]:
    """Draws a chart in each size on each scale; the page shows one of them at a time, the first scale first."""
    return [
        # Built by an XML library, which escapes; marked as done, so that it is not escaped again.
        Drawing(Markup(draw(chart, frame, is_log=scale == "log")), scale, scale == scales[0])  # noqa: S704
        for scale in scales
        for frame in frames
    ]


def _commands(job: job_pb2.Job) -> list[tuple[str, str]]:
    """Returns commands that repeat the training, each with what it does."""
    identity = job_id(job.name)
    commands = [(f"trana submit {identity}.yaml", "the same again, on the service")]
    if not job.spec.training.code.bundle:
        # A bundle lies at the service that it was uploaded to.
        commands.append((f"trana run {identity}.yaml", "on this machine"))
    if job.best_epoch:
        commands.append((f"trana pull {identity}", "fetches the best checkpoint"))
    commands.append((f"trana report {identity}", "writes this page"))
    return commands


def _cut(text: str, most: int) -> str:
    """Returns a text that may be long; how to get the whole of it where it is."""
    return text if len(text) <= most else f"{text[:most]}\n# … cut here; `trana get JOB -o json` has the whole"


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("trana.client.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
