"""The atlas as a page: side by side first, then a section per family, then how to read it.

It uses the report's own page, so it filters, prints, goes dark and works offline alike. It must
know nothing of where designs come from.
"""

from __future__ import annotations

from pathlib import Path

from reports import words
from reports.atlas import Atlas, Entry, layouts
from reports.atlas_curves import curves_chart
from reports.atlas_file import atlas_csv, atlas_json
from reports.atlas_tables import designs_table, refused_bullets
from reports.document import Figure, Page, Part, anchored
from reports.gallery import Gallery, Plate, image_files, safe_stem
from reports.io import write_whole
from reports.render import render_html
from reports.rendering import Studio, to_png
from reports.token_diagram import NARROW, WIDE, family_diagram
from reports.token_diagram_overview import overview
from reports.token_diagram_words import arithmetic, spoken

TITLE = "Token-design atlas"
PAGE = "atlas.html"


def write_atlas(atlas: Atlas, folder: Path, suite: str = "") -> tuple[Path, ...]:
    """Write ``atlas.html``, its figures (SVG and PNG), ``atlas.json`` and ``atlas.csv``.

    The page comes last; each file appears whole or not at all. ``suite`` is the title of the
    report beside it, if there is one.
    """
    with Studio() as studio:
        return AtlasInWork(studio, atlas, suite).write(folder)


class AtlasInWork:
    """The atlas while its charts are drawn, in a studio that may draw others beside them."""

    def __init__(self, studio: Studio, atlas: Atlas, suite: str = "") -> None:
        self._atlas = atlas
        self._gallery = Gallery(studio)
        self._page, self._plates = atlas_page(self._gallery, atlas, suite)

    def write(self, folder: Path) -> tuple[Path, ...]:
        """Wait for the charts and write everything, the page last."""
        return _write(self._atlas, self._page, self._plates | self._gallery.plates(), folder)


def _write(atlas: Atlas, page: Page, plates: dict[str, Plate], folder: Path) -> tuple[Path, ...]:
    folder.mkdir(parents=True, exist_ok=True)
    written = [write_whole(folder / name, raw) for name, raw in image_files(plates)]
    written.append(write_whole(folder / "atlas.json", atlas_json(atlas)))
    written.append(write_whole(folder / "atlas.csv", atlas_csv(atlas)))
    written.append(write_whole(folder / PAGE, render_html(page, plates)))
    return tuple(written)


def atlas_page(gallery: Gallery, atlas: Atlas, suite: str = "") -> tuple[Page, dict[str, Plate]]:
    """The page, and the diagrams on it; its charts are the gallery's."""
    plates: dict[str, Plate] = {}
    parts = [_side_by_side(atlas, plates)]
    parts += [
        _family(gallery, atlas, family, entries, plates)
        for family, entries in atlas.families.items()
    ]
    parts.append(_how_to_read(atlas))
    facets = tuple(
        {
            "variant": e.variant,
            "family": e.family,
            "version": e.version,
            "size": e.size,
            "scheme": e.scheme,
            "tier": words.NO_VALUE,
        }
        for e in atlas.entries
    )
    links = ((f"Report: {suite}", "report.html"),) if suite else ()
    return Page(TITLE, _lead(atlas, suite), anchored(parts), facets, links), plates


def _lead(atlas: Atlas, suite: str) -> str:
    where = (
        f' The variants are those of "{suite}", at the input of its first task.' if suite else ""
    )
    return (
        f"How a sample of {atlas.height} x {atlas.width} pixels and "
        f"{words.number(atlas.steps, 'time step')} becomes tokens, at patch size "
        f"{atlas.patch_size}, and what that costs.{where}"
    )


def _side_by_side(atlas: Atlas, plates: dict[str, Plate]) -> Part:
    designs = layouts(atlas.entries)
    plates["atlas_overview"] = _plate(
        overview(designs, "overview-wide"), overview(designs, "overview-narrow", is_narrow=True)
    )
    figure = Figure(
        "atlas_overview",
        "Every design at this input. Tokens in the colours of the bands that they hold; the area "
        "of attention is the number of pairs of tokens, to one scale. MACs are those of the "
        "smallest size shown and depend on it: compare tokens between families, MACs within one.",
        f"Token designs side by side. {spoken(designs)}",
    )
    said = "Measured on " + machine_words(atlas) if atlas.is_measured else NOT_MEASURED
    return Part(
        "Side by side",
        paragraphs=(f"{said}.",),
        figures=(figure,),
        tables=(designs_table(atlas),),
        parts=(Part("Not shown at this input", bullets=refused_bullets(atlas)),),
    )


NOT_MEASURED = "Throughput and peak memory: not measured here; tokenrank tokens --measure does"


def machine_words(atlas: Atlas) -> str:
    """The machine in a few words."""
    names = ("device", "cores", "load", "torch")
    return ", ".join(filter(None, (atlas.machine.get(name) for name in names)))


def _family(
    gallery: Gallery,
    atlas: Atlas,
    family: str,
    entries: tuple[Entry, ...],
    plates: dict[str, Plate],
) -> Part:
    designs = layouts(entries)
    stem = safe_stem(f"atlas_tokens_{family}")
    plates[stem] = _plate(
        family_diagram(designs, WIDE, f"{stem}-wide"),
        family_diagram(designs, NARROW, f"{stem}-narrow"),
    )
    diagram = Figure(
        stem,
        "Bands in the order of their wavelengths, joined where they share a token; the grid of "
        "patches; one square per token; attention, N x N, to one scale within this figure.",
        f"How {family} makes tokens. {spoken(designs)}",
    )
    charts = gallery.drawn(
        f"atlas_cost_{family}",
        lambda frame: curves_chart(entries, machine_words(atlas), frame),
        "Closed forms as one thing changes and the rest stays as in the diagram above. All axes "
        "but attention's share are logarithmic. Variants with the same curves share a line.",
        f"Cost of {family} against image side, time steps and patch size.",
    )
    names = tuple(entry.variant for entry in entries)
    sums = tuple(f"{design.name}: {'; '.join(arithmetic(design.first))}" for design in designs)
    return Part(
        family, figures=(diagram, *charts), bullets=sums, about=names if len(names) == 1 else ()
    )


def _plate(wide: str, narrow: str) -> Plate:
    return Plate(wide, narrow, to_png(wide))


def _how_to_read(atlas: Atlas) -> Part:
    terms = _TERMS if atlas.is_measured else _TERMS[:-1]
    return Part("How to read this page", terms=terms)


_TERMS = (
    (
        "Tokens",
        "N = H/p x W/p x T x G for each modality, G its band groups; class tokens and further "
        "sequences are added as the design says.",
    ),
    (
        "MACs",
        "Multiply-accumulates of one sample's forward pass, attention included, in closed form; "
        "a test holds them equal to a trace of the real module. Attention's part grows with "
        "N x N, the rest with N.",
    ),
    (
        "Peak activations",
        "Closed form for one sample in float32: N (5 d + h) numbers at the widest moment of a "
        "block (width d, hidden width h), or the pixels while patches are embedded if these are "
        "more, and tables that are held beside (a penalty on attention, N x N per head; "
        "rotations). The N x N scores are never held. Scratch memory of kernels, some hundred "
        "kilobytes a thread, is not counted.",
    ),
    ("Weights", "Parameters in float32."),
    (
        "Measured",
        "Samples per second are taken in batches, as a suite embeds them, on every core; peak "
        "memory is what one pass of one sample holds at once beyond weights and images, by the "
        "allocations that torch records. Weights are random: they change neither.",
    ),
)
