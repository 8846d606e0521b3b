"""Like with like: the tasks on which all chosen entrants may be ranked, and why not the others.

A model without a task never gets a rank over fewer tasks: the task is left out for all, and
the reason kept. Pure functions; it must know nothing of files, figures or own runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from harness.published import grids
from harness.published.entrants import Entrant
from harness.published.tasks import Task, differences, nearest
from models.errors import UserError
from reports.words import listed


@dataclass(frozen=True)
class LeftOut:
    """A task that not all chosen entrants share, and why."""

    task: Task
    reason: str


@dataclass(frozen=True)
class Shared:
    """The tasks that all entrants share, in alphabetical order, and those that they do not."""

    tasks: tuple[Task, ...]
    left_out: tuple[LeftOut, ...]


@dataclass(frozen=True)
class Selection:
    """Entrants and the tasks they are ranked on; ``uneven`` tasks had unlike inputs."""

    entrants: tuple[Entrant, ...]
    tasks: tuple[Task, ...]
    left_out: tuple[LeftOut, ...]
    uneven: Mapping[Task, Mapping[int, list[str]]]


def select(
    entrants: Sequence[Entrant],
    probes: Sequence[str] = (),
    datasets: Sequence[str] = (),
    any_grid: bool = False,
) -> Selection:
    """The tasks on which all entrants may be compared.

    Tasks whose stated cost shows that some models were given far more patch positions than
    others (`grids.uneven`) are left out, unless ``any_grid``. Raises `UserError` when nothing
    is left, or there are fewer than two entrants.
    """
    if len(entrants) < 2:
        raise UserError(
            f"A ranking needs at least two models, but {len(entrants)} "
            f"{'was' if len(entrants) == 1 else 'were'} chosen; name more."
        )
    shared = shared_tasks(entrants)
    wanted = [t for t in shared.tasks if _is_wanted(t, probes, datasets)]
    uneven = {t: found for t in wanted if (found := grids.uneven(entrants, t))}
    tasks = tuple(t for t in wanted if any_grid or t not in uneven)
    left_out = tuple(x for x in shared.left_out if _is_wanted(x.task, probes, datasets))
    if not tasks:
        raise UserError(_nothing_shared(entrants, left_out, uneven))
    return Selection(tuple(entrants), tasks, left_out, uneven)


def _is_wanted(task: Task, probes: Sequence[str], datasets: Sequence[str]) -> bool:
    return (not probes or task.probe in probes) and (not datasets or task.dataset in datasets)


def _nothing_shared(
    entrants: Sequence[Entrant], left_out: Sequence[LeftOut], uneven: Mapping[Task, object]
) -> str:
    if uneven:
        return (
            f"All {len(uneven)} shared tasks were measured on unlike patch grids, as their stated "
            "cost shows; --any-grid ranks them all the same."
        )
    example = f": {left_out[0].task.dataset}: {left_out[0].reason}" if left_out else ""
    return (
        f"The {len(entrants)} chosen models share no task of the same data set, metric, probe, "
        f"bands and image size{example}; choose fewer models."
    )


def shared_tasks(entrants: Sequence[Entrant]) -> Shared:
    """Tasks on which every entrant has a result, and why the others are not among them."""
    every = dict.fromkeys(task for entrant in entrants for task in entrant.cells)
    tasks = sorted((t for t in every if all(t in e.cells for e in entrants)), key=_sort_key)
    rest = sorted((t for t in every if t not in tasks), key=_sort_key)
    return Shared(tuple(tasks), tuple(LeftOut(t, _why(t, entrants)) for t in rest))


def _sort_key(task: Task) -> tuple[str, ...]:
    return tuple(str(value) for value in asdict(task).values())


def _why(task: Task, entrants: Sequence[Entrant]) -> str:
    """Who lacks a task, and the nearest that those have instead."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for entrant in entrants:
        if task not in entrant.cells:
            reasons.setdefault(_lack(task, entrant), []).append(entrant.name)
    return "; ".join(
        f"{listed(names)} {one if len(names) == 1 else many}"
        for (one, many), names in reasons.items()
    )


def _lack(task: Task, entrant: Entrant) -> tuple[str, str]:
    """What keeps one entrant, and several, from a task."""
    if task.dataset in entrant.conflicting:
        return "has contradicting results", "have contradicting results"
    near = nearest(task, list(entrant.cells))
    if near is None or near.dataset != task.dataset:
        return "has no result on it", "have no result on it"
    only = f"it only with {differences(task, near)}"
    return f"has {only}", f"have {only}"
