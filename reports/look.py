"""The look that all figures share: font, colours, frames, titles, and the rendering itself.

vl-convert renders without browser or network, in the font it carries, to the same bytes
each time. It must know nothing of what a figure shows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from reports import rendering, words
from reports.pairs import version_key
from reports.ranking import BASELINE, RankingTable
from reports.table import SuiteResults

# Liberation Sans is the font vl-convert carries (a figure in Arial alone comes out without
# text where Arial is not installed); Arial and Helvetica share its metrics in a browser.
FONT = "Liberation Sans, Arial, Helvetica, sans-serif"
INK, MUTED, GRID, WARNING, PAPER = "#1f2328", "#6e7781", "#e3e6ea", "#b3261e", "#ffffff"
# Okabe and Ito's colours: told apart under every common colour blindness, on light and dark.
VERSION_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a6fd1")

SCHEME_SHAPES = ("circle", "square", "diamond", "triangle-up", "cross", "triangle-down")

Spec = dict[str, Any]
"""A Vega-Lite specification."""

VEGA_LITE = ".".join(alt.SCHEMA_VERSION.lstrip("v").split(".")[:2])


@dataclass(frozen=True)
class Frame:
    """Size of a plot's inner area in pixels; the page shows a wide and a narrow one."""

    width: int
    height: int

    @property
    def is_narrow(self) -> bool:
        """Whether it is meant for a phone."""
        return self.width < 400


WIDE, NARROW = Frame(800, 440), Frame(275, 400)


@dataclass(frozen=True)
class Cast:
    """How the variants of a suite are called and coloured in every figure of its report."""

    labels: Mapping[str, str]
    versions: Mapping[str, str]
    schemes: Mapping[str, str]

    @classmethod
    def of(cls, results: SuiteResults) -> Cast:
        """Names and versions.

        Where there are several families, the colours name them, and so do the labels of
        all but the most numerous one. Baselines come last and count for none. A name that
        stands in several tiers is shown without its tier: a figure is of one, and says so,
        unless the suite mixes them.
        """
        rows = results.variants.to_dicts()
        marks = [row for row in rows if row["tier"] == BASELINE]
        rows = [row for row in rows if row["tier"] != BASELINE]
        families = [row["family"] for row in rows]
        order = sorted(set(families), key=lambda f: (-families.count(f), families.index(f)))
        rows.sort(key=lambda row: (order.index(row["family"]), version_key(row["version"])))
        main, alone = order[0] if order else "", len(order) <= 1
        rows += marks
        return cls(
            {
                r["variant"]: words.short_label(
                    _untiered(r) if not results.run.mix_tiers else r["variant"],
                    main if r["tier"] != BASELINE else r["family"],
                )
                for r in rows
            },
            {
                r["variant"]: words.clip(f"{'' if alone else r['family']} {r['version']}", 24)
                for r in rows
            },
            {r["variant"]: words.clip(r["scheme"] or words.NO_VALUE, 32) for r in rows},
        )

    def colour(self, variants: Sequence[str], legend: bool = True) -> alt.Color:
        """Colour by version; a version keeps its colour in all figures of a report."""
        every = list(dict.fromkeys(self.versions.values()))
        shown = [v for v in every if v in {self.versions[name] for name in variants}]
        colours = [VERSION_COLOURS[every.index(v) % len(VERSION_COLOURS)] for v in shown]
        scale = alt.Scale(domain=shown, range=colours)
        if not legend:
            return alt.Color("version:N", scale=scale, legend=None)
        return alt.Color("version:N", title="Version", scale=scale)

    def shape(self, variants: Sequence[str]) -> alt.Shape:
        """Shape by token scheme; a scheme keeps its shape in all figures of a report."""
        every = sorted(set(self.schemes.values()))
        shown = [s for s in every if s in {self.schemes[name] for name in variants}]
        shapes = [SCHEME_SHAPES[every.index(s) % len(SCHEME_SHAPES)] for s in shown]
        scale = alt.Scale(domain=shown, range=shapes)
        return alt.Shape("scheme:N", title="Token scheme", scale=scale)


def _untiered(row: Mapping[str, Any]) -> str:
    return str(row["variant"]).removesuffix(f"@{row['tier']}")


def to_svg(spec: Spec) -> str:
    """Render a specification; text stays text."""
    return rendering.to_svg(spec, VEGA_LITE)


to_png = rendering.to_png


def subject(results: SuiteResults, ranking: RankingTable) -> str:
    """What a figure is about, for its title: suite and patch size."""
    patches = words.patches(task.patch_size for task in ranking.tasks)
    return ", ".join(filter(None, [words.clip(results.run.suite, 40), patches]))


def title_of(text: str, ranking: RankingTable, frame: Frame, about: str = "") -> alt.TitleParams:
    """A title, and beneath it, unmissable, what kind of data and weights this is.

    ``about`` (see `subject`) follows the title, on a line of its own where it is narrow.
    """
    warn = not words.is_trustworthy(ranking.tiers, ranking.origin)
    state = ranking.status
    lines = wrapped(state, 44 if frame.is_narrow else 100)
    title: str | list[str] = f"{text}: {about}" if about else text
    if frame.is_narrow and about:
        title = [text, *wrapped(about, 38)]
    return alt.TitleParams(
        title,
        subtitle=lines,
        subtitleColor=WARNING if warn else MUTED,
        subtitleFontWeight="bold" if warn else "normal",
        subtitleFontSize=12 if frame.is_narrow else 13,
        subtitlePadding=4,
    )


def wrapped(text: str, length: int) -> list[str]:
    """Lines of about that many characters."""
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > length:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def finished(chart: Any, frame: Frame) -> Spec:
    """The chart's specification, with everything set that a renderer might else choose."""
    # Altair has checked each part as it was made; checking the whole again takes most of the time.
    spec: Spec = chart.to_dict(validate=False)
    for name, rows in spec.get("datasets", {}).items():
        if isinstance(rows, str):  # see `reports.marks.marks`
            spec["datasets"][name] = json.loads(rows)
    # As plain data: Altair's own way copies the whole chart once for every line of it.
    spec["config"] = _config(frame)
    return spec


def _config(frame: Frame) -> Spec:
    axis = {"labelColor": INK, "titleColor": INK, "gridColor": GRID, "domainColor": MUTED}
    return {
        "background": PAPER,
        "font": FONT,
        "padding": 10,
        "axis": {**axis, "tickColor": MUTED, "titleFontWeight": "normal", "titleFontSize": 12},
        "view": {"stroke": None},
        "title": {
            "anchor": "start",
            "color": INK,
            "fontSize": 15,
            "offset": 12,
            "frame": "group",
        },
        "legend": {
            "orient": "bottom",
            "labelColor": INK,
            "titleColor": INK,
            "columns": 2 if frame.is_narrow else 5,
            "labelLimit": 220,
            "symbolOpacity": 1,
            "symbolStrokeWidth": 0,
            # Vega stacks legends on request.
            "layout": {"bottom": {"direction": "vertical", "anchor": "start", "margin": 10}},
        },
    }
