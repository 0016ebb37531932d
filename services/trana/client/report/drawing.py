"""Draws a chart as SVG: one drawing for each width and each scale, so that text is never scaled."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

from trana.client.report.charts import Chart, Line, Mark
from trana.client.report.scales import Scale, is_number, whole_ticks

Element = ElementTree.Element
# Points that are few enough to be seen one by one.
_DOTS_UP_TO = 40
# So many that a thick line would fill the space between its ups and downs.
_DENSE_FROM = 180
_LINE_OF_TEXT = 16
# Of the words at marks: a wide character, the distance from the line, and how far that rises beside them.
_CHARACTER, _LABEL_GAP, _LABEL_RISE = 7.2, 6, 6


@dataclass(frozen=True, slots=True)
class Label:
    """Where the words at a mark stand, and which of their ends lies there: `start` or `end`."""

    x: float
    y: float
    anchor: str


@dataclass(frozen=True, slots=True)
class Frame:
    """The size of a drawing, and what of it is left around the plot, in CSS pixels."""

    name: str
    width: int
    height: int
    left: int = 52
    right: int = 14
    top: int = 14
    bottom: int = 30

    @property
    def has_labels(self) -> bool:
        """Whether there is room for what marks mean, above the plot."""
        return self.top > 2 * _LINE_OF_TEXT

    @property
    def has_names(self) -> bool:
        """Whether there is room for the names of lines, at their ends."""
        return self.right > 4 * _LINE_OF_TEXT


WIDE = Frame("wide", 800, 360, right=96, top=44)
NARROW = Frame("narrow", 360, 300, left=48, top=44)
LOW = Frame("wide", 800, 170, right=96)
LOW_NARROW = Frame("narrow", 360, 170, left=48)
SMALL = Frame("small", 384, 190)


def draw(chart: Chart, frame: Frame, *, is_log: bool = False) -> str:
    """Returns a chart as an SVG element.

    Args:
        chart: What to draw.
        frame: How large.
        is_log: Whether the values' axis is logarithmic; every value is greater than 0 then.
    """
    first, last = (chart.epochs[0], chart.epochs[-1]) if chart.epochs else (1, 1)
    # A single epoch is a point in the middle.
    room = 0.5 if first == last else 0.0
    across = Scale(first - room, last + room, frame.left, frame.width - frame.right)
    up = chart.vertical(frame.height - frame.bottom, frame.top, is_log=is_log)
    svg = _root(chart, frame, across, up)
    svg.extend(_axes(frame, across, up, whole_ticks(first, last, max(3, (frame.width - frame.left) // 90))))
    svg.extend(_after_onset(chart, frame, across))
    svg.extend(_band(chart, across, up))
    # What learned from the samples lies below what is judged by others.
    for line in sorted(chart.lines, key=lambda line: line.kind == "val"):
        look = f"line {line.kind}" + (" dense" if len(chart.epochs) > _DENSE_FROM else "")
        svg.append(_element("path", d=_path(chart.epochs, line.values, across, up), class_=look))
        svg.extend(_dots(chart.epochs, line, across, up))
    svg.extend(_marks(chart.marks, frame, across, up))
    if frame.has_names:
        svg.extend(_names(chart.lines, frame, up))
    svg.append(_element("g", class_="cursor"))
    return ElementTree.tostring(svg, encoding="unicode")


def _root(chart: Chart, frame: Frame, across: Scale, up: Scale) -> Element:
    scale = "log" if up.is_log else "linear"
    key = f"{chart.key}-{frame.name}-{scale}"
    svg = _element(
        "svg",
        viewBox=f"0 0 {frame.width} {frame.height}",
        role="img",
        class_=frame.name,
        aria_labelledby=f"{key}-title {key}-desc",
        data_scale=scale,
        # What reads points under the pointer needs to know of the axes.
        data_x=f"{across.low} {across.high} {across.begin} {across.end}",
        data_y=f"{up.low!r} {up.high!r} {up.begin} {up.end}",
    )
    svg.append(_element("title", chart.title, id=f"{key}-title"))
    svg.append(_element("desc", chart.description, id=f"{key}-desc"))
    return svg


def _axes(frame: Frame, across: Scale, up: Scale, epochs: Sequence[int]) -> Iterator[Element]:
    left, right, bottom = frame.left, frame.width - frame.right, frame.height - frame.bottom
    for value, label in up.ticks(max(3, (frame.height - frame.top - frame.bottom) // 44)):
        y = up.place(value)
        yield _element("line", class_="grid", x1=left, x2=right, y1=y, y2=y)
        yield _element("text", label, class_="tick", x=left - 8, y=y + 4, text_anchor="end")
    if up.is_log and frame.has_labels:
        # Above the labels of the marks; on paper no switch tells.
        yield _element("text", "(logarithmic)", class_="tick", x=0, y=frame.top - 2 * _LINE_OF_TEXT)
    yield _element("line", class_="axis", x1=left, x2=right, y1=bottom, y2=bottom)
    for epoch in epochs:
        x = across.place(epoch)
        yield _element("line", class_="axis", x1=x, x2=x, y1=bottom, y2=bottom + 4)
        yield _element("text", f"{epoch:,}", class_="tick", x=x, y=bottom + 18, text_anchor="middle")
    if frame.has_names:
        yield _element("text", "epoch", class_="tick", x=frame.width, y=bottom + 18, text_anchor="end")


def _after_onset(chart: Chart, frame: Frame, across: Scale) -> Iterator[Element]:
    """Tints the epochs in which the network has only learned what does not hold for other samples."""
    for mark in chart.marks:
        if mark.kind == "onset":
            x, height = across.place(mark.epoch), frame.height - frame.top - frame.bottom
            yield _element("rect", class_="overfit", x=x, y=frame.top, width=across.end - x, height=height)


def _band(chart: Chart, across: Scale, up: Scale) -> Iterator[Element]:
    """Draws two standard errors around validation loss, wherever they are known."""
    values = next((line.values for line in chart.lines if line.kind == "val"), ())
    edges = []
    for epoch, value, error in zip(chart.epochs, values, chart.errors, strict=False):
        if is_number(value) and is_number(error):
            low, high = max(value - error, up.low), min(value + error, up.high)
            edges.append((across.place(epoch), up.place(low), up.place(high)))
    if len(edges) > 1:
        around = [(x, low) for x, low, _ in edges] + [(x, high) for x, _, high in reversed(edges)]
        yield _element("path", class_="band", d="M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in around) + "Z")


def _path(epochs: Sequence[int], values: Sequence[float], across: Scale, up: Scale) -> str:
    """Returns a line with a hole wherever there is no number; a point between two holes is a dot."""
    parts: list[str] = []
    is_open = False
    for epoch, value in zip(epochs, values, strict=True):
        if not is_number(value):
            is_open = False
            continue
        place = f"{across.place(epoch):.1f} {up.place(value):.1f}"
        # The round end of a line that goes nowhere is a dot.
        parts.append(f"L{place}" if is_open else f"M{place}h0")
        is_open = True
    return "".join(parts)


def _dots(epochs: Sequence[int], line: Line, across: Scale, up: Scale) -> Iterator[Element]:
    if len(epochs) <= _DOTS_UP_TO:
        for epoch, value in zip(epochs, line.values, strict=True):
            if is_number(value):
                x, y = across.place(epoch), up.place(value)
                yield _element("circle", class_=f"dot {line.kind}", cx=x, cy=y, r=2.4)


def _marks(marks: Sequence[Mark], frame: Frame, across: Scale, up: Scale) -> Iterator[Element]:
    """Marks epochs by a line and a sign; those of the best lie over those of the onset, and leave them in sight."""
    onset = next((mark.epoch for mark in marks if mark.kind == "onset"), None)
    labels = _labels(marks, frame, across) if frame.has_labels else {}
    for mark in sorted(marks, key=lambda mark: mark.kind == "best"):
        x = across.place(mark.epoch)
        top = labels[mark.kind].y - _LABEL_RISE if labels else frame.top
        group = _element("g", class_=f"mark {mark.kind}", data_epoch=mark.epoch)
        if mark.kind == "onset" or mark.epoch != onset:
            # Of the same epoch one line is enough: two would make one of a colour that means nothing.
            group.append(_element("line", x1=x, x2=x, y1=top, y2=frame.height - frame.bottom))
        if is_number(mark.value) and up.low <= mark.value <= up.high:
            group.append(_sign(mark, x, up.place(mark.value)))
        yield group
    # Over the lines of all marks.
    for mark in marks if labels else ():
        label = labels[mark.kind]
        group = _element("g", class_=f"mark {mark.kind}")
        group.append(_element("text", mark.label, x=label.x, y=label.y, text_anchor=label.anchor))
        yield group


def _labels(marks: Sequence[Mark], frame: Frame, across: Scale) -> dict[str, Label]:
    """Places what marks mean above the plot, on two rows, so that no line of a mark goes through words.

    Words stand on the outer sides of two lines. Where there is no room for that, those which reach over the other
    line stand on the upper row, and the other line begins below them.
    """
    placed: dict[str, Label] = {}
    ordered = sorted(marks, key=lambda mark: (mark.epoch, mark.kind == "best"))
    is_upper = False
    for mark in ordered:
        x, width = across.place(mark.epoch), _CHARACTER * len(mark.label) + _LABEL_GAP
        is_left = mark is ordered[0] and len(ordered) > 1
        before = x - width > 0 if is_left else x + width > frame.width
        # Of the left one: its words reach over the right line. Of the right one: the upper row is free.
        is_upper = not before if is_left else not is_upper and len(ordered) > 1
        row = 1 if is_upper else 0
        x_text, anchor = (x - _LABEL_GAP, "end") if before else (x + _LABEL_GAP, "start")
        placed[mark.kind] = Label(x_text, frame.top - _LINE_OF_TEXT * row, anchor)
    return placed


def _sign(mark: Mark, x: float, y: float) -> Element:
    if mark.kind == "best":
        return _element("circle", cx=x, cy=y, r=4.5)
    # Large enough to be seen behind the circle of the same epoch.
    return _element("path", d=f"M{x:.1f} {y - 11:.1f}l11 11l-11 11l-11 -11Z")


def _names(lines: Sequence[Line], frame: Frame, up: Scale) -> Iterator[Element]:
    """Writes the names of lines at their ends, apart from each other."""
    ends = []
    for line in lines:
        numbers = [value for value in line.values if is_number(value)]
        if numbers:
            ends.append((up.place(numbers[-1]), line))
    bottom = float(frame.height)
    for y, line in sorted(ends, key=lambda end: end[0], reverse=True):
        bottom = min(y, bottom - _LINE_OF_TEXT)
        x = frame.width - frame.right + 10
        yield _element("text", line.name, class_=f"name {line.kind}", x=x, y=bottom + 4)


def _element(tag: str, text: str = "", **attributes: str | float) -> Element:
    """Makes an element; `class_` becomes class, `data_x` data-x, and numbers get a digit behind the point."""
    written = {
        name.rstrip("_").replace("_", "-"): value if isinstance(value, str) else f"{value:.1f}".removesuffix(".0")
        for name, value in attributes.items()
    }
    element = ElementTree.Element(tag, written)
    element.text = text or None
    return element
