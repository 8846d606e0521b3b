"""`tokenrank study`: train every arm of a study in resumable pieces, then rank and report them.

It joins the study's file, its trainings, the suites that rank them and the terminal, and decides
nothing that could change a weight or a score.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from harness.commands.launching import launch_all, launch_of
from harness.commands.pretrain import chips_of
from harness.commands.run import room_on, run_suite_command
from harness.entrants import PRETRAINED
from harness.executors.profile import Profile
from harness.pretraining.closing import close_left
from harness.store import Store
from harness.store_place import open_store
from harness.studies.curves import ArmCost, arm_costs, learning_curves
from harness.studies.file import ProbeEntry, Study, load_study, study_path
from harness.studies.shipping import ship
from harness.studies.trainings import State, Training, Wanted, state_of, trainings_of
from harness.suite import Overrides, Suite, load_suite, suite_path
from harness.terminal import plain_table
from models.errors import UserError
from models.study_cards import SEED_FIELD
from reports import words
from reports.table import SuiteResults
from suites.chips import ChipFolder, SimulatedChips
from suites.datasets import catalogue


@dataclass(frozen=True)
class Asked:
    """The options of the command. ``workers``: trainings at a time, None: as many as fit."""

    study: str
    data: str | None
    out: Path
    store: str
    data_dir: Path | None
    registry: tuple[Path, ...]
    workers: int | None
    wanted: Wanted
    train: bool
    rank: bool
    tolerate: float
    track: bool
    profile: Profile
    ship: Path | None = None


def study_command(asked: Asked) -> None:
    """Train what is missing, rank what stands. Raises `UserError`, also where an arm failed."""
    if asked.ship is not None and not asked.rank:
        raise UserError(
            "--ship writes scores into cards, so it ranks first: leave --train-only out."
        )
    console = Console()
    study = load_study(study_path(asked.study), asked.registry)
    store = open_store(asked.store)
    with room_on(asked.out):
        store.prepare()
        chips = _chips(asked, study, store)
        trainings = trainings_of(study, asked.wanted, asked.out, chips)
        states = [state_of(training, study) for training in trainings]
        probe = _probe(study, asked.data_dir, store)
        _say(console, study, states, chips, probe)
        failures = dict[Training, str]()
        if asked.train:
            failures = _train(console, asked, study, states, probe)
            states = [state_of(training, study) for training in trainings]
        _show_costs(console, study, states, asked.out, probe)
    results = []
    if asked.rank:
        # All arms are ranked, whichever were asked to be trained: seeds must be paired over all.
        every = trainings_of(study, Wanted(samples=asked.wanted.samples), asked.out, chips)
        results = _rank(console, asked, study, [state_of(each, study) for each in every])
    _refuse_failures(failures, trainings)
    if asked.ship is not None:
        _ship(console, asked.ship, study, states, results)


def _ship(
    console: Console,
    folder: Path,
    study: Study,
    states: Sequence[State],
    results: Sequence[SuiteResults],
) -> None:
    """Write the best run of each main arm, and say which and how large."""
    shipped = ship(study, states, results, folder)
    for each in shipped:
        console.print(
            f"{escape(each.recipe)}: seed {each.seed} (kNN {each.validation:.3f} on the validation "
            f"split), {each.size / 1e6:.1f} MB"
            f"{', in place of earlier weights' if each.replaced else ''}: "
            f"{escape(str(each.files.weights))}",
            highlight=False,
            soft_wrap=True,
        )
    console.print(f"{sum(each.size for each in shipped) / 1e6:.1f} MB in all.", highlight=False)


def _chips(asked: Asked, study: Study, store: Store) -> ChipFolder | SimulatedChips | None:
    if asked.data is not None:
        return chips_of(asked.data, store, asked.tolerate)
    if not asked.train:
        return None
    raise UserError(
        f'Study "{study.name}" trains on chips: give their folder with --data (or '
        "TOKENRANK_CHIPS), or --data simulated; --rank-only ranks what is trained already."
    )


def _probe(study: Study, data_dir: Path | None, store: Store) -> str | None:
    """The data set that is probed: the study's, or what stands in for it where it is not there."""
    if study.probe is None:
        return None
    found = catalogue.resolve(
        study.probe.dataset,
        data_dir,
        fallback=study.probe.fallback,
        cache_dir=store.cache_folder,
    )
    return found.card.name


# --- training ------------------------------------------------------------------------------------


def _train(
    console: Console, asked: Asked, study: Study, states: Sequence[State], probe: str | None
) -> dict[Training, str]:
    """Run the trainings that are not done, and show them; the sentences of those that failed."""
    if asked.track:
        done = [state.training.folder for state in states if state.is_done]
        close_left(open_store(asked.store), done, "FINISHED", "")
    missing = [state for state in states if not state.is_done]
    if not missing:
        return {}
    arguments = _arguments(asked, study, probe)
    named = [(launch_of(state, arguments(state.training)), state) for state in missing]
    store, track = open_store(asked.store), asked.track
    failures = launch_all(
        console, named, asked.profile, asked.workers, study.name, asked.out, store, track=track
    )
    by_key = {launch.key: state.training for launch, state in named}
    return {by_key[key]: sentence for key, sentence in failures.items()}


def _arguments(
    asked: Asked, study: Study, probe: str | None
) -> Callable[[Training], Sequence[str]]:
    shared = ["--data", str(asked.data), "--size", study.size, "--setting", study.setting_given]
    shared += ["--out", str(asked.out), "--store", str(asked.store)]
    shared += ["--tolerate", str(asked.tolerate)]
    if asked.wanted.samples is not None:
        shared += ["--samples", str(asked.wanted.samples)]
    if asked.data_dir is not None:
        shared += ["--data-dir", str(asked.data_dir)]
    if probe is not None and study.probe is not None:
        shared += ["--probe", probe, "--probe-every", str(study.probe.every)]
        shared += ["--patch-size", str(study.probe.patch_size)]
    for path in study.registry:
        shared += ["--registry", str(path)]
    shared += [] if asked.track else ["--no-track"]

    def arguments(training: Training) -> list[str]:
        return ["pretrain", training.arm.given, "--seed", str(training.seed), *shared]

    return arguments


def _refuse_failures(failures: dict[Training, str], trainings: Sequence[Training]) -> None:
    if not failures:
        return
    said = "; ".join(f"{t.title}: {sentence.rstrip('.')}" for t, sentence in failures.items())
    raise UserError(
        f"{len(failures)} of {len(trainings)} trainings failed ({said}). The same command tries "
        "them again; what is done is kept."
    )


# --- ranking -------------------------------------------------------------------------------------


def _rank(
    console: Console, asked: Asked, study: Study, states: Sequence[State]
) -> list[SuiteResults]:
    """Run the study's suites on the weights that stand, on seeds that all ranked arms have."""
    results = []
    for name in study.suites:
        suite = load_suite(suite_path(name), Overrides(registry=asked.registry))
        mine = _trained(suite, states)
        seeds = _seeds(suite, mine)
        if not any(mine.values()):
            console.print(f"Suite {escape(suite.name)}: none of its arms is trained yet.")
            continue
        if set(seeds) != set(suite.seeds):
            console.print(
                f"[yellow]Suite {escape(suite.name)}: seeds {', '.join(map(str, seeds))} of "
                f"{', '.join(map(str, suite.seeds))}, which all arms that are trained have.[/]",
                soft_wrap=True,
            )
        places = [f"{key}={_place(asked.out, key, study)}" for key in mine]
        ranked = run_suite_command(
            name,
            data_dir=asked.data_dir,
            store=asked.store,
            weights_dir=None,
            registry=list(asked.registry),
            variants=None,
            tier=None,
            seeds=list(seeds),
            patch_size=None,
            weights=[] if asked.out == PRETRAINED else places,
        )
        results.append(ranked)
    return results


def _trained(suite: Suite, states: Sequence[State]) -> dict[str, set[int]]:
    """Per entrant of tier study (``variant@recipe``) the seeds that are trained."""
    found: dict[str, set[int]] = {}
    for entrant in suite.entrants:
        if entrant.tier != "study":
            continue
        found[f"{entrant.variant.name}@{entrant.recipe}"] = {
            state.training.seed
            for state in states
            if state.is_done
            and state.training.arm.recipe.name == entrant.recipe
            and state.training.arm.variant.name == entrant.variant.name
        }
    return found


def _seeds(suite: Suite, trained: dict[str, set[int]]) -> tuple[int, ...]:
    """The suite's seeds that every arm with any has; all of them where there is none."""
    some = [seeds & set(suite.seeds) for seeds in trained.values() if seeds & set(suite.seeds)]
    shared = set.intersection(*some) if some else set()
    return tuple(seed for seed in suite.seeds if seed in shared) or suite.seeds


def _place(out: Path, key: str, study: Study) -> Path:
    return out / f"{key.partition('@')[2]}-{study.size}" / f"seed-{SEED_FIELD}"


# --- telling -------------------------------------------------------------------------------------


def _say(
    console: Console,
    study: Study,
    states: Sequence[State],
    chips: ChipFolder | SimulatedChips | None,
    probe: str | None,
) -> None:
    console.print(f"Study [bold]{escape(study.name)}[/]: {escape(study.title)}", soft_wrap=True)
    if chips is not None:
        console.print(
            f"Data: [bold]{chips.card.origin.upper()}[/] · {escape(chips.card.title)}, setting "
            f"{escape(study.setting.name)}, size {escape(study.size)}.",
            highlight=False,
            soft_wrap=True,
        )
    entry: ProbeEntry | None = study.probe
    if entry is not None and probe is not None:
        instead = "" if probe == entry.dataset else f", which stands in for {entry.dataset}"
        console.print(
            f"Probe: kNN on the validation split of {escape(probe)}{escape(instead)}, every "
            f"{entry.every:,} samples.",
            highlight=False,
            soft_wrap=True,
        )
    rows = [
        (
            state.training.arm.recipe.name,
            str(state.training.seed),
            state.standing,
            f"{state.samples:,}",
            words.NO_VALUE if state.total is None else f"{state.total:,}",
        )
        for state in states
    ]
    console.print(plain_table(("Arm", "Seed", "State", "Samples", "of"), rows, numeric=3))


def _show_costs(
    console: Console, study: Study, states: Sequence[State], out: Path, probe: str | None
) -> None:
    """A table of what the arms have cost, v1 against v1.1, and the learning curves as files."""
    from reports.learning_curve_files import write_learning_curves  # noqa: PLC0415  (draws)

    curves = learning_curves(study, states, probe or "")
    if not curves.trainings:
        return
    costs = arm_costs(study, states)
    v1 = next((cost.macs for cost in costs if cost.arm == "v1"), None)
    rows = [
        (
            cost.arm,
            f"{cost.done}/{cost.seeds}",
            words.count(cost.samples),
            words.quantity(cost.macs),
            words.ratio(cost.macs / v1 if cost.macs and v1 else None),
            words.NO_VALUE if cost.samples_per_second is None else f"{cost.samples_per_second:.0f}",
            words.score(cost.loss),
        )
        for cost in costs
        if cost.done
    ]
    headers = ("Arm", "Seeds", "Samples", "MACs", "of v1", "per s", "Loss")
    console.print(plain_table(headers, rows, numeric=1))
    for line in cost_sentences(costs):
        console.print(line, highlight=False, soft_wrap=True)
    files = write_learning_curves(curves, out / "curves")
    console.print(
        f"Learning curves: {escape(str(files[0].parent))}", highlight=False, soft_wrap=True
    )


def cost_sentences(costs: Sequence[ArmCost]) -> list[str]:
    """Training cost of v1 against v1.1, in MACs and in time, where both are trained."""
    by_name = {cost.arm: cost for cost in costs}
    v1, newer = by_name.get("v1"), by_name.get("v1.1")
    if v1 is None or newer is None:
        return []
    said = []
    if v1.macs and newer.macs:
        said.append(
            f"Training v1 takes {v1.macs / newer.macs:.2f}x the MACs of v1.1 (forward and "
            "backward, the same number of samples)."
        )
    if v1.seconds and newer.seconds:
        said.append(
            f"Training v1 took {v1.seconds / newer.seconds:.2f}x the time of v1.1 here; the "
            "published figure, for Base on GPUs, is 1.7x."
        )
    return said


__all__ = ["Asked", "cost_sentences", "study_command"]
