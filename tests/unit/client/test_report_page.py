"""The page from messages alone; how a browser shows it is tested in tests/integration/client/test_report.py."""

import io
import math
import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.console import Console
from trana.client.command.charts import draw_curves
from trana.client.report.charts import Chart, Line, Mark
from trana.client.report.curves import learning_curve
from trana.client.report.drawing import NARROW, SMALL, WIDE, Frame, draw
from trana.client.report.layers import layer_rows
from trana.client.report.material import Material
from trana.client.report.page import render
from trana.client.report.scales import Scale, fit_linear, fit_log, whole_ticks, write
from trana.client.report.spec_text import brief, to_yaml
from trana.client.report.thinning import thin
from trana.client.report.verdict import say, say_more
from trana.spec.read import parse_job, read_job
from trana.v1 import fit_pb2, job_pb2, layer_pb2, training_pb2
from unit.client import stories

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
EXAMPLES = sorted((Path(__file__).parents[3] / "deploy/examples").rglob("*.yaml"))
OWN_LOOP = """\
training:
  code: {bundle: bundles/0000000000000000000000000000000000000000000000000000000000000000, pip: [einops]}
  loop: {entrypoint: "train:main", args: {depth: 3, rate: 0.5, name: "größer ✓"}}
resources: {num_workers: 1}
"""


class Tags(HTMLParser):
    """Every element of a page, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]

    def handle_data(self, data: str) -> None:
        self.text += f"{data} "


def text_of(material: Material) -> str:
    return " ".join(Tags(render(material, now=NOW)).text.split())


def test_a_page_refers_to_nothing_outside() -> None:
    page = render(stories.overfitting(), now=NOW)
    assert Tags(page).links == ["data:,"]
    assert set(re.findall(r"https?://[^\s\"']+", page)) == {"http://www.w3.org/2000/svg"}
    assert "@import" not in page
    assert "url(" not in page


def test_a_page_says_all_that_one_asks_for() -> None:
    text = text_of(stories.overfitting())
    for words in (
        "It overfits since epoch 15. 93 % likely · as of epoch 44 · 27 epochs (11 s, 61 % of the training)",
        "ended by early stopping: the verdict that it overfits",
        "Warning: the network has 85,002 parameters",
        "The rise is 5.7 paired standard errors over 270 validation samples: not chance.",
        "Early stopping. Stop early, by early_stopping: {by: VERDICT} : little was gained after epoch 15",
        "test accuracy 0.8037",
        "60 training (10 %) 270 validation (45 %)",
        "3 Linear 256 65,792 77 %",
        "adamw (learning_rate 0.005, weight_decay 0.01)",
        "queued and started 4 s",
        "an epoch 420 ms (median)",
        "verdict after epoch 44: OVERFITTING since epoch 15 (probability 0.93)",
        "trana submit digits-too-large.yaml",
        "seed of the split 3",
        "learning_rate: 0.005",
    ):
        assert words in text
    assert "by <code>early_stopping: {by: VERDICT}</code>: little" in render(stories.overfitting(), now=NOW)


def test_what_users_write_stays_text() -> None:
    story = stories.overfitting()
    clean = Tags(render(story, now=NOW)).names
    evil = '"><script>alert(1)</script><svg onload=alert(1)></style>{{ 7*7 }}'
    job = story.job
    job.spec.display_name = job.message = job.warnings[0] = job.spec.labels["team"] = evil
    job.fit.evidence[0] = job.fit.advice[0].text = job.layers[0].kind = job.spec.training.dataset.target = evil
    for event in story.events:
        event.state_change.message = evil
    page = render(story, now=NOW)
    # The job had no message before: nothing else is new.
    assert sorted(Tags(page).names) == sorted([*clean, "span"])
    assert "<script>alert" not in page
    assert "{{ 7*7 }}" in page


def test_a_measure_of_any_name_leaves_the_page_whole() -> None:
    story = stories.good()
    for epoch in story.epochs:
        epoch.metrics["val_</script><b>&"] = 0.5
    page = render(story, now=NOW)
    assert "</script><b>" not in page
    assert "b" not in Tags(page).names


@pytest.mark.parametrize("state", ["QUEUED", "RUNNING", "FAILED", "CANCELLED"])
@pytest.mark.parametrize("epochs", [0, 1, 2])
def test_a_job_in_any_state_has_a_page(state: str, epochs: int) -> None:
    story = stories.make(lambda t: 1 / t, lambda t: 2 / t, epochs, state=state)
    text = text_of(story)
    assert state in text
    ended = state in ("FAILED", "CANCELLED")
    nothing = "It ended before an epoch was done." if ended else "No epoch is done yet."
    assert ("No verdict was given." if epochs else nothing) in text


@pytest.mark.parametrize(
    ("label", "slope", "now", "at_the_end"),
    [
        ("UNDERFITTING", -0.1, "It is still learning.", "It underfits: it has not learned what it could."),
        ("UNDERFITTING", 0.0, "It has learned little so far.", "It underfits: it has not learned what it could."),
        ("GOOD_FIT", 0.0, "It fits well so far.", "It fits well."),
        ("OVERFITTING", 0.1, "It probably overfits since epoch 2.", "It probably overfits since epoch 2."),
    ],
)
def test_a_verdict_is_told_as_of_now_and_no_surer_than_it_is(
    label: str, slope: float, now: str, at_the_end: str
) -> None:
    fit = fit_pb2.FitVerdict(label=fit_pb2.FitLabel.Value(f"FIT_LABEL_{label}"), epoch=3, confidence=0.5)
    fit.slopes.val = slope
    fit.onset_epoch = 2 if label == "OVERFITTING" else 0
    kind = "likely" if label == "OVERFITTING" else "sure"
    for state, said in (("RUNNING", now), ("SUCCEEDED", at_the_end)):
        story = stories.make(lambda t: 1 / t, lambda t: 2 / t, 3, verdict=fit, state=state)
        assert (say(story), say_more(story.job)) == (said, f"50 % {kind} · as of epoch 3")


@pytest.mark.parametrize(
    ("train", "val"),
    [
        (math.nan, math.nan),
        (0.0, 0.0),
        (-3.0, -2.0),
        (1e308, -1e308),
        (math.inf, 1.0),
        (5e-324, 1e300),
        (0.5, 0.5),
        (1e-310, 0.0),
        (0.0, -5e-324),
    ],
)
def test_losses_of_any_kind_have_a_page(train: float, val: float) -> None:
    fit = fit_pb2.FitVerdict(label=fit_pb2.FIT_LABEL_UNDETERMINED, epoch=3, gap=math.nan, evidence=["Only 3 epochs."])
    page = render(stories.make(lambda t: train, lambda t: val, 3, verdict=fit), now=NOW)
    assert "The curve does not tell." in page
    paths = re.findall(r'<path d="([^"]*)" class="line', page)
    assert all("nan" not in path and "inf" not in path for path in paths)


def test_a_loop_of_the_users_has_a_page() -> None:
    story = stories.make(lambda t: 1 / t, lambda t: 2 / t, 4, spec=OWN_LOOP)
    del story.job.layers[:]
    text = text_of(story)
    assert "train:main" in text
    assert "größer ✓" in text
    # The bundle lies at the service alone.
    assert "trana submit digits-too-large.yaml" in text
    assert "trana run" not in text


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_the_spec_of_a_page_makes_the_same_job(path: Path) -> None:
    spec = read_job(path)
    assert parse_job(to_yaml(spec), base=Path("/elsewhere"), source="again") == spec


def test_free_arguments_come_back_as_they_were() -> None:
    spec = parse_job(OWN_LOOP, base=Path("/"), source="spec")
    assert "depth: 3\n" in to_yaml(spec)
    assert parse_job(to_yaml(spec), base=Path("/"), source="again") == spec


def test_a_part_of_a_spec_is_told_on_a_line() -> None:
    stopping = training_pb2.EarlyStopping(by=training_pb2.STOPPING_RULE_VERDICT, start_from_epoch=5)
    assert brief(stopping) == "start_from_epoch 5, by verdict"
    assert brief(training_pb2.Loss(mse=training_pb2.MeanSquaredError())) == "mse"


def test_a_thinned_curve_keeps_what_matters() -> None:
    values = [math.sin(index / 50) for index in range(20_000)]
    values[777], values[12_345], values[15_000] = 9.0, -9.0, math.nan
    kept = thin([values, [0.0] * 20_000], 500, keep=[4_321])
    assert len(kept) <= 500 * 1.2
    assert {0, 777, 4_321, 12_345, 15_000, 19_999} <= set(kept)
    assert kept == sorted(set(kept))
    assert thin([values[:100]], 500) == list(range(100))
    assert thin([[]], 500) == []


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([0.1, 2.2], ["0.0", "0.5", "1.0", "1.5", "2.0"]),
        ([0, 8e-13], ["0", "2e−13", "4e−13", "6e−13", "8e−13"]),
        ([1200, 51_000], ["0", "10,000", "20,000", "30,000", "40,000", "50,000"]),
        ([0.00061, 0.00064], ["0.00061", "0.00062", "0.00063", "0.00064"]),
        ([-1, 1], ["−1.0", "−0.5", "0.0", "0.5", "1.0"]),
    ],
)
def test_a_linear_axis_has_round_numbers(values: list[float], ticks: list[str]) -> None:
    assert [label for _, label in fit_linear(values, 0, 100).ticks(6)] == ticks


def test_a_logarithmic_axis_has_powers_of_ten() -> None:
    assert [label for _, label in fit_log([0.004, 30], 0, 100).ticks(5)] == ["0.01", "0.1", "1", "10"]
    assert [label for _, label in fit_log([0.9, 5e12], 0, 100).ticks(5)] == ["1", "1,000", "1e6", "1e9", "1e12"]
    scale = Scale(1, 100, 0, 50, is_log=True)
    assert scale.place(10) == pytest.approx(25)


def test_epochs_are_whole_numbers() -> None:
    assert whole_ticks(1, 44, 7) == [1, 10, 20, 30, 40]
    assert whole_ticks(1, 3, 7) == [1, 2, 3]
    assert whole_ticks(1, 1, 7) == [1]
    assert whole_ticks(1, 100_000, 5) == [1, 20_000, 40_000, 60_000, 80_000, 100_000]


@pytest.mark.parametrize(
    ("value", "text"), [(0.65797, "0.658"), (-2.5, "−2.5"), (1e-7, "1e−7"), (3e12, "3e12"), (math.nan, "no number")]
)
def test_numbers_are_written_short(value: float, text: str) -> None:
    assert write(value) == text


@pytest.mark.parametrize("frame", [WIDE, NARROW, SMALL])
def test_a_hole_in_a_curve_stays_a_hole(frame: object) -> None:
    values = [1.0, 2.0, math.nan, 3.0, math.nan, 2.0]
    chart = Chart("c", "t", "d", list(range(1, 7)), [Line("loss", "val", values)])
    svg = draw(chart, frame)  # type: ignore[arg-type]
    path = re.search(r'd="([^"]*)" class="line val"', svg)
    assert path is not None
    assert path[1].count("M") == 3
    assert svg.count('class="dot val"') == 4


# Training loss alone may fall over decades: the turn of validation loss is what is to be seen.
@pytest.mark.parametrize(
    ("train", "val", "is_log"), [(1e-3, 1e-3, True), (1e-3, 0.5, False), (0.1, 0.1, False), (0.0, 1e-3, False)]
)
def test_page_and_terminal_choose_the_same_scale(train: float, val: float, is_log: bool) -> None:
    story = stories.make(lambda t: 1.0 if t == 1 else train, lambda t: val, 9)
    assert (learning_curve(story).scales[0] == "log") == is_log
    console = Console(file=io.StringIO(), width=120)
    with console.capture() as capture:
        console.print(draw_curves(story.epochs, None, width=120, height=12))
    assert ("(logarithmic)" in capture.get()) == is_log
    drawing = draw(learning_curve(story), WIDE, is_log=is_log)
    assert ("(logarithmic)" in drawing) == is_log


@pytest.mark.parametrize("frame", [WIDE, NARROW])
@pytest.mark.parametrize(
    ("onset", "best"), [(25, 34), (25, 28), (2, 3), (57, 59), (30, 30), (40, 20), (1, 60), (0, 34)]
)
def test_no_mark_goes_through_the_words_at_another(frame: Frame, onset: int, best: int) -> None:
    marks = [Mark("onset", onset, 0.5), Mark("best", best, 0.5)][not onset :]
    chart = Chart("c", "t", "d", list(range(1, 61)), [Line("loss", "val", [0.5] * 60)], marks)
    svg = ElementTree.fromstring(draw(chart, frame))  # noqa: S314 - our own
    lines = [part.attrib for part in svg.iterfind(".//g/line")]
    words = svg.findall(".//g/text")
    assert [text.text for text in words] == [mark.label for mark in marks]
    rows = {float(text.attrib["y"]) for text in words}
    assert len(rows) == len(marks)
    for text in words:
        x, y, width = float(text.attrib["x"]), float(text.attrib["y"]), 7 * len(text.text or "")
        left = x - width if text.attrib["text-anchor"] == "end" else x
        assert 0 <= left <= left + width <= frame.width
        for line in lines:
            crosses = left < float(line["x1"]) < left + width and float(line["y1"]) < y - 1
            assert not crosses, (text.text, line)


def test_a_network_too_deep_for_a_page_is_summed_up() -> None:
    layers = [layer_pb2.BuiltLayer(name=str(index), kind="Linear", num_parameters=10) for index in range(1000)]
    rows = layer_rows(job_pb2.Job(layers=layers))
    assert len(rows) == 401
    assert rows[200].kind == "600 more layers"
    assert sum(row.parameters or 0 for row in rows) == 10_000
    assert sum(row.share for row in rows) == pytest.approx(1)


def test_a_network_that_is_not_built_yet_is_told_as_declared(spec: job_pb2.JobSpec) -> None:
    assert [(row.kind, row.parameters) for row in layer_rows(job_pb2.Job(spec=spec))] == [
        ("linear", None),
        ("relu", None),
        ("linear", None),
    ]
