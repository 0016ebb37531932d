"""What the dashboards are built from: panels that look alike, queries, variables, links and annotations.

Each panel takes its title, a description (shown behind its "i") and its queries; the grid has 24 columns, a panel
takes `width` of them and `height` rows of 30 pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from grafana_foundation_sdk.builders import common as c
from grafana_foundation_sdk.builders import dashboard as d
from grafana_foundation_sdk.builders import prometheus, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.models import common, dashboard
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

Panel = TypeVar("Panel", timeseries.Panel, stat.Panel, table.Panel, statetimeline.Panel)
# An expression, and the legend of its series ("" leaves the labels to Grafana).
Query = tuple[str, str]

SOURCE = common.DataSourceRef(type_val="prometheus", uid="${datasource}")
# One place for colours, so that a verdict or a loss looks the same on every dashboard; the palette is Grafana's own.
COLOURS = {
    "UNDETERMINED": "gray",
    "UNDERFITTING": "blue",
    "GOOD_FIT": "green",
    "OVERFITTING": "orange",
    "DIVERGED": "red",
    "training": "blue",
    "validation": "orange",
    "best validation": "green",
}
RAYS_OWN = " Read from Ray's own exporter: empty unless Prometheus scrapes it too (deploy/prometheus/README.md)."


def _query(query: Query, number: int) -> prometheus.Dataquery:
    expr, legend = query
    return prometheus.Dataquery().ref_id(chr(ord("A") + number)).expr(expr).legend_format(legend or "__auto").range()


def _placed(panel: Panel, title: str, text: str, width: int, height: int) -> Panel:
    return panel.title(title).description(text).datasource(SOURCE).span(width).height(height)


def _steps(limits: Sequence[tuple[float, str]], base: str) -> d.ThresholdsConfig:
    steps = [dashboard.Threshold(value=None, color=base)]
    steps += [dashboard.Threshold(value=value, color=colour) for value, colour in limits]
    return d.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(steps)


def _fixed(colour: str) -> list[dashboard.DynamicConfigValue]:
    return [dashboard.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": colour})]


def _transformation(name: str, **options: object) -> dashboard.DataTransformerConfig:
    return dashboard.DataTransformerConfig(id_val=name, options=options)


def in_unit(unit: str) -> list[dashboard.DynamicConfigValue]:
    """For a series whose unit is not its panel's."""
    return [dashboard.DynamicConfigValue("unit", unit)]


def on_the_right() -> list[dashboard.DynamicConfigValue]:
    """For a series with an axis of its own."""
    return [dashboard.DynamicConfigValue("custom.axisPlacement", "right")]


def not_stacked() -> list[dashboard.DynamicConfigValue]:
    """For a line over areas that add up to less."""
    return [
        dashboard.DynamicConfigValue("custom.stacking", {"mode": "none", "group": "A"}),
        dashboard.DynamicConfigValue("custom.fillOpacity", 0),
        dashboard.DynamicConfigValue("custom.lineStyle", {"fill": "dash", "dash": [10, 10]}),
    ]


def graph(
    title: str,
    text: str,
    *queries: Query,
    unit: str,
    width: int = 12,
    height: int = 8,
    stacked: bool = False,
    zero: bool = True,
    logarithmic: bool = False,
    exemplars: bool = False,
) -> timeseries.Panel:
    """Lines over time; `stacked` ones add up, `zero` starts the axis there, `exemplars` shows the traces behind."""
    panel = _placed(timeseries.Panel(), title, text, width, height).unit(unit)
    for number, query in enumerate(queries):
        panel.with_target(_query(query, number).exemplar(exemplars))
    panel.line_width(1).fill_opacity(30 if stacked else 5).show_points(common.VisibilityMode.AUTO)
    panel.tooltip(c.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI).sort(common.SortOrder.DESCENDING))
    panel.legend(
        c.VizLegendOptions()
        .display_mode(common.LegendDisplayMode.TABLE)
        .placement(common.LegendPlacement.BOTTOM)
        .calcs(["lastNotNull", "max"])
        .show_legend(True)
    )
    if stacked:
        panel.stacking(c.StackingConfig().mode(common.StackingMode.NORMAL))
    if logarithmic:
        panel.scale_distribution(c.ScaleDistributionConfig().type(common.ScaleDistribution.LOG).log(10))
    elif zero:
        panel.axis_soft_min(0)
    legends = " ".join(legend for _, legend in queries)
    for name, colour in COLOURS.items():
        if name in legends or (name.isupper() and "{{verdict}}" in legends):
            panel.override_by_name(name, _fixed(colour))
    return panel


def figure(
    title: str,
    text: str,
    query: Query,
    *,
    unit: str,
    width: int = 4,
    height: int = 4,
    limits: Sequence[tuple[float, str]] = (),
    base: str = "green",
    names: dict[str, str] | None = None,
    says: str = "value",
    now: bool = False,
) -> stat.Panel:
    """One number, coloured from `base` on by the limits that it passes; `names` says values in words.

    It `says` its `value`, or its `name`, which is the query's legend. The last value of the time range unless it is of
    `now`: the figures of a job that has ended stay to be read.
    """
    asked = _query(query, 0)
    panel = _placed(stat.Panel(), title, text, width, height).unit(unit).with_target(asked.instant() if now else asked)
    panel.thresholds(_steps(limits, base)).color_mode(common.BigValueColorMode.VALUE)
    panel.graph_mode(common.BigValueGraphMode.NONE if names or now or says == "name" else common.BigValueGraphMode.AREA)
    panel.reduce_options(c.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
    panel.text_mode(common.BigValueTextMode.NAME if says == "name" else common.BigValueTextMode.VALUE)
    if names:
        options = {value: dashboard.ValueMappingResult(text=name) for value, name in names.items()}
        panel.mappings([dashboard.ValueMap(options=options)])
    return panel


def timeline(title: str, text: str, *queries: Query, width: int = 24, height: int = 8) -> statetimeline.Panel:
    """A band for each series, filled where it is 1."""
    panel = _placed(statetimeline.Panel(), title, text, width, height).unit("short")
    for number, query in enumerate(queries):
        panel.with_target(_query(query, number))
    said = {
        "0": dashboard.ValueMappingResult(text="no", color="transparent"),
        "1": dashboard.ValueMappingResult(text="yes", color="orange"),
    }
    return panel.mappings([dashboard.ValueMap(options=said)]).show_value(common.VisibilityMode.NEVER).row_height(0.8)


def rows(
    title: str,
    text: str,
    columns: Sequence[tuple[str, str, str]],
    *,
    by: str,
    width: int = 24,
    height: int = 9,
    sort: str = "",
    link: tuple[str, str] | None = None,
) -> table.Panel:
    """A table: one row for each value of the label `by`, a column for each of its (heading, expression, unit).

    An expression without a heading gives its labels alone. `link` is a title and an address for the cells of `by`.
    """
    panel = _placed(table.Panel(), title, text, width, height).unit("short")
    headings = {}
    left_out = ["Time", *(f"Time {number}" for number in range(1, len(columns) + 1))]
    for number, (heading, expr, unit) in enumerate(columns):
        letter = chr(ord("A") + number)
        query = prometheus.Dataquery().ref_id(letter).expr(expr).instant().format(PromQueryFormat.TABLE)
        panel.with_target(query)
        # The value of a query that stands alone has no letter.
        value = f"Value #{letter}" if len(columns) > 1 else "Value"
        if not heading:
            left_out.append(value)
            continue
        headings[value] = heading
        panel.override_by_name(heading, in_unit(unit))
    if len(columns) > 1:
        panel.with_transformation(_transformation("joinByField", byField=by, mode="outer"))
    order = {by: 0}
    out = dict.fromkeys(left_out, True)
    panel.with_transformation(_transformation("organize", excludeByName=out, renameByName=headings, indexByName=order))
    if sort:
        panel.sort_by([c.TableSortByFieldState().display_name(sort).desc(True)])
    if link:
        opened = {"title": link[0], "url": link[1], "targetBlank": False}
        panel.override_by_name(by, [dashboard.DynamicConfigValue("links", [opened])])
    return panel


def datasource() -> d.DatasourceVariable:
    """Which Prometheus is asked."""
    return d.DatasourceVariable("datasource").label("Prometheus").type("prometheus")


def variable(name: str, label: str, query: str, *, many: bool = False) -> d.QueryVariable:
    """A variable that offers what `query` finds; one of `many` starts with all."""
    made = d.QueryVariable(name).label(label).query(query).datasource(SOURCE)
    made.refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(dashboard.VariableSort.ALPHABETICAL_ASC)
    if many:
        made.multi(True).include_all(True).all_value(".*")
        made.current(dashboard.VariableOption(text="All", value="$__all", selected=True))
    return made


def mark(name: str, expr: str, *, text: str, colour: str) -> d.AnnotationQuery:
    """A line across every graph at the time that `expr` says, in milliseconds since 1970."""
    return (
        d.AnnotationQuery()
        .name(name)
        .datasource(SOURCE)
        .enable(True)
        .icon_color(colour)
        .expr(expr)
        .title_format(name)
        .text_format(text)
        .step("1m")
        .use_value_for_time(True)
    )


def board(
    uid: str, title: str, text: str, *, variables: Sequence[d.QueryVariable] = (), since: str = "now-1h"
) -> d.Dashboard:
    """An empty dashboard with the variables and the links to the others, which all dashboards of Trana have."""
    # The second schema is newer; only the first one is provisioned by every Grafana in use.
    made = d.Dashboard(title)
    made.uid(uid).description(text).tags(["trana"]).timezone("browser").readonly()
    made.tooltip(dashboard.DashboardCursorSync.CROSSHAIR).refresh("30s").time(since, "now")
    for each in (datasource(), *variables):
        made.with_variable(each)
    links = d.DashboardLink("Trana").type(dashboard.DashboardLinkType.DASHBOARDS).tags(["trana"])
    return made.link(links.as_dropdown(False).keep_time(True).include_vars(True))
