"""Marks that several figures share: rows of data, and labels that are data too.

A label drawn as a mark cannot end a Vega expression, whatever characters it holds, and is
placed where the figure says, not where an axis has room. It must know nothing of variants.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from reports.look import INK

LABEL_SIZE = 11
Layer = Any  # what Altair's marks and encodings return, untyped


def inline(rows: Sequence[Mapping[str, Any]]) -> alt.InlineData:
    """Rows as a chart's data, one mark each; `reports.look.finished` makes rows of it again.

    As one text: Altair would walk and copy every value of a list again for every layer, which
    for a few hundred rows takes longer than drawing them.
    """
    text = json.dumps(list(rows), allow_nan=False)
    return alt.InlineData(values=text, format=alt.JsonDataFormat(type="json"))


def marks(rows: Sequence[Mapping[str, Any]]) -> Layer:
    """A chart of some rows, to be given a mark and encodings."""
    return alt.Chart(inline(rows))


def row_labels(texts: Sequence[str], y: alt.Y) -> Layer:
    """Texts left of the plot, one for each of the rows 0, 1, ... of ``y`` (field ``order``)."""
    rows = [{"order": i, "text": text} for i, text in enumerate(texts)]
    mark = marks(rows).mark_text(
        align="right", baseline="middle", fontSize=LABEL_SIZE, color=INK, aria=False
    )
    return mark.encode(x=alt.value(-8), y=y, text=alt.Text("text:N"))
