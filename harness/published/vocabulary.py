"""Names that differ between tables: one word for one thing, by rules that are data.

`vocabulary.yaml` holds the rules. A name it does not list is never guessed: it stays as it
is, and so is compared with nothing else. It must know nothing of files or rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from models import config_file

_FILE = Path(__file__).with_name("vocabulary.yaml")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class MetricEntry(_Strict):
    """What values a metric takes, and which way is better."""

    fraction: bool = False
    at_least: float | None = None
    at_most: float | None = None
    higher_is_better: bool = True
    also: list[str] = []


class DatasetEntry(_Strict):
    """What a table does not say about a data set. ``side`` is in pixels."""

    title: str
    sensor: str
    side: int
    imagery: str
    band_order: str = ""
    note: str = ""


class Vocabulary(_Strict):
    """All of `vocabulary.yaml`."""

    metrics: dict[str, MetricEntry]
    models: dict[str, str]
    bands: dict[str, dict[str, list[str]]]
    datasets: dict[str, DatasetEntry]
    probes: dict[str, str]

    def metric(self, name: str) -> str | None:
        """A metric's own name for any of its spellings; None when it is not known."""
        return next((k for k, m in self.metrics.items() if name == k or name in m.also), None)

    def variant(self, model: str) -> str:
        """The registry's name of a model, if it is one; otherwise the name itself."""
        return self.models.get(model, model)

    def band_names(self, dataset: str, given: str) -> tuple[str, ...]:
        """Canonical band names, sorted, of a comma-separated list, ``rgb`` or ``all``.

        ``all`` stays ``all``: what a data set holds in all is its own affair, and equal
        only to itself.
        """
        entry = self.datasets.get(dataset)
        names = self._by_spelling(entry.sensor if entry else "")
        found = given.strip().lower()
        if found == "all":
            return ("all",)
        listed = ["red", "green", "blue"] if found == "rgb" else found.split(",")
        return tuple(sorted({names.get(b.strip(), b.strip()) for b in listed if b.strip()}))

    def _by_spelling(self, sensor: str) -> Mapping[str, str]:
        table = self.bands.get(sensor, {})
        return {spelling: name for name, also in table.items() for spelling in also}


@lru_cache(maxsize=1)
def vocabulary() -> Vocabulary:
    """The shipped vocabulary."""
    return config_file.validate(Vocabulary, config_file.read(_FILE))
