"""From a page to its two texts: self-contained HTML, and Markdown as code hosts render it.

The HTML page allows itself nothing from elsewhere (a Content-Security-Policy says so) and
one script, known by its hash. It must know nothing of what a report says.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Mapping
from importlib import resources

import jinja2

from reports.descriptions import Marker
from reports.document import FACETS, Page
from reports.gallery import Plate


def render_html(page: Page, plates: Mapping[str, Plate]) -> str:
    """One self-contained file: no script, style, font or image from elsewhere."""
    marker = Marker([v["variant"] for v in page.variants])
    script = _asset("report.js") or ""
    facets = {
        facet: values
        for facet in FACETS
        if len(values := list(dict.fromkeys(v[facet] for v in page.variants))) > 1
    }
    return (
        _environment(autoescape=True)
        .get_template("report.html.j2")
        .render(
            page=page,
            facets=facets,
            # For the script: the facets of each variant, which rows and marks name by number.
            variants=json.dumps([{f: v[f] for f in FACETS} for v in page.variants]),
            style=_asset("report.css"),
            script=script,
            script_hash=_hash(script),
            about=marker.indices,
            plates=plates,
            marked=marker.marked,
        )
    )


def render_markdown(page: Page) -> str:
    """Markdown as code hosts render it, with the figures beside it."""
    return _environment(autoescape=False).get_template("report.md.j2").render(page=page)


def markdown_text(text: str) -> str:
    """Text that Markdown shows as it is: no markup, no HTML, no line or cell break."""
    line = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~#$@])", r"\\\1", line)


def html_text(text: str) -> str:
    """Text inside an HTML element of a Markdown page, where Markdown has no say."""
    return html.escape(" ".join(text.split()))


def code_block(text: str) -> str:
    """A fenced block that no run of backticks in the text can end."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}sh\n{text}\n{fence}"


def _hash(script: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _asset(name: str) -> str | None:
    found = resources.files("reports").joinpath("templates", name)
    return found.read_text(encoding="utf-8") if found.is_file() else None


def _environment(autoescape: bool) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_asset),
        autoescape=autoescape,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    environment.filters |= {"md": markdown_text, "md_html": html_text, "code_block": code_block}
    return environment
