"""A task for every combination of a sweep's values. It must not know files, data sets or suites."""

from __future__ import annotations

from itertools import product

from harness.suite_file import TaskEntry

_SUFFIXES = {
    "patch_size": "-patch{}",
    "side": "-side{}",
    "steps": "-steps{}",
    "label_fraction": "-labels{:.3g}",
}
_OF_THE_DATA = ("side", "steps")


def swept(entry: TaskEntry) -> list[TaskEntry]:
    """A task for every combination of its sweep's values, named after them; else itself."""
    if entry.sweep is None:
        return [entry]
    axes = [(name, values) for name, values in entry.sweep if values is not None]
    found = []
    for chosen in product(*(values for _, values in axes)):
        said = {name: value for (name, _), value in zip(axes, chosen, strict=True)}
        data = {name: value for name, value in said.items() if name in _OF_THE_DATA}
        own = {name: value for name, value in said.items() if name not in data}
        suffix = "".join(_SUFFIXES[name].format(value) for name, value in said.items())
        update = {
            "name": entry.name + suffix,
            "data": entry.data.model_copy(update=data),
            "sweep": None,
            **own,
        }
        found.append(entry.model_copy(update=update))
    return found
