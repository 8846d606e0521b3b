"""From stored cells to the table that ranking, reports and tracking read.

A pure reading of the plan and the store. It must know nothing of how cells are
computed or of how the table is shown.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict

import polars as pl

from harness.atlas.of_plan import atlas_of
from harness.cell_tables import COSTS, CellTables, tables_of
from harness.content import content_key
from harness.costs import Cost, cost_curve, cost_of
from harness.entrants import BASELINE, Entrant
from harness.metrics import metric
from harness.model_input import level_mismatch
from harness.plan import Plan, given_input, left_out_sentences, shown_name
from harness.provenance import Manifest
from harness.store import Store
from harness.study_facts import cards_of, study_facts
from harness.suite import Task
from harness.suite_file import (
    AnyProbe,
    AttentionProbe,
    FinetuneProbe,
    KnnProbe,
    LinearProbe,
    SegmentationProbe,
)
from models.families import design_of
from models.own.variant import OWN
from models.sensors import modality
from models.study_cards import StudyCard
from reports.table import (
    CURVE_SCHEMA,
    HALVED,
    SCORE_SCHEMA,
    VARIANT_SCHEMA,
    MissingCell,
    RunInfo,
    SuiteResults,
    TaskInfo,
)
from suites.datasets.base import Dataset, DatasetCard
from suites.datasets.splits import HasDigests, few_labels, find_duplicates

NOT_COMPUTED = "not computed yet"


def collect(
    plan: Plan,
    store: Store,
    manifest: Manifest,
    tables: CellTables | None = None,
    broken: Mapping[str, str] | None = None,
) -> SuiteResults:
    """The table of a run. A cell without a result is listed as missing, never imputed.

    ``tables``: of the plan's cells, where they were read already. ``broken``: why cells, by key,
    could not be computed.
    """
    found = tables or tables_of(plan, store)
    costs = _costs(plan, store)
    return SuiteResults(
        run=_run_info(plan, manifest, found.absent, broken or {}),
        variants=_variants(plan, costs),
        scores=_with_costs(plan, found.scores, costs),
        samples=found.samples,
        trials=found.trials,
        curves=_curves(plan),
        atlas=atlas_of(plan, {name: cost.params for (name, _), cost in costs.items()}),
    )


def results_digest(results: SuiteResults) -> str:
    """Hash of everything a view can show: the same digest, the same report."""
    return content_key(
        {
            "run": {**asdict(results.run), "versions": dict(results.run.versions)},
            "variants": results.variants.rows(),
            "scores": results.scores.drop("sketch").sort("variant", "task", "seed").rows(),
            "curves": results.curves.rows(),
            "atlas": asdict(results.atlas) if results.atlas else None,
        }
    )


Costs = dict[tuple[str, str], Cost]


def _costs(plan: Plan, store: Store) -> Costs:
    """Costs of what each variant sees of each task; none where it cannot take part."""
    found: Costs = {}
    for entrant in plan.suite.entrants:
        for task in plan.suite.tasks:
            given = given_input(entrant, task, plan.dataset_of(task))
            if not isinstance(given, str):
                cost = cost_of(entrant.variant, given.shapes, task.patch_size, store)
                found[entrant.variant.name, task.name] = cost
    return found


def _variants(plan: Plan, costs: Costs) -> pl.DataFrame:
    rows = [_variant_row(plan, entrant, costs) for entrant in plan.suite.entrants]
    return pl.DataFrame(rows, schema=VARIANT_SCHEMA, orient="row")


def _variant_row(plan: Plan, entrant: Entrant, costs: Costs) -> dict[str, object]:
    variant = entrant.variant
    cards = cards_of(plan, entrant)
    own = [
        costs[variant.name, task.name]
        for task in plan.suite.tasks
        if (variant.name, task.name) in costs
    ]

    def mean(values: Iterable[int]) -> float | None:
        return sum(values) / len(own) if own else None

    return {
        "variant": shown_name(plan, entrant),
        "family": variant.family,
        "version": variant.version,
        "size": variant.size,
        "scheme": variant.scheme.name,
        "tier": entrant.tier,
        "licence": licence_of(entrant, cards[0] if cards else None),
        "groups": _groups(plan, entrant),
        "params": own[0].params if own else None,
        "tokens": mean(c.tokens for c in own),
        "macs": mean(c.macs for c in own),
        "macs_patch_embedding": mean(c.patch_embedding for c in own),
        "macs_linear": mean(c.linear for c in own),
        "macs_attention": mean(c.attention for c in own),
        "weights_hash": _weights_label(plan, entrant),
        "published_gflops": None,
        "recipe": entrant.recipe,
    }


def licence_of(entrant: Entrant, card: StudyCard | None = None) -> str:
    """What a user may do with the weights; what was never trained has no licence to mind."""
    variant = entrant.variant
    if entrant.tier == "study":
        return card.licence if card else "not known (the weights are not there)"
    if entrant.tier == "official":
        # A publisher's licence is not that of weights which somebody else trained.
        of_a_user = variant.official is None and variant.encoder != OWN
        return "not stated (the user's own weights)" if of_a_user else variant.licence
    return "none (nothing is trained)" if entrant.tier == BASELINE else "none (untrained)"


def _groups(plan: Plan, entrant: Entrant) -> int:
    """Tokens per patch and step, of the modality that has most of them."""
    found = []
    for task in plan.suite.tasks:
        given = given_input(entrant, task, plan.dataset_of(task))
        if not isinstance(given, str):
            layout = design_of(entrant.variant).layout(given.shapes, task.patch_size)
            found.append(layout.groups)
    return max(found, default=1)


def _weights_label(plan: Plan, entrant: Entrant) -> str:
    labels = dict.fromkeys(c.weights.label for c in plan.cells if c.row == entrant.row)
    if entrant.tier in ("random", BASELINE):
        seeds = "random, seeds " + ", ".join(str(seed) for seed in plan.suite.seeds)
        return seeds if entrant.variant.options.get("seeded", True) else "none"
    return ", ".join(labels) or "none"


def _with_costs(plan: Plan, scores: pl.DataFrame, costs: Costs) -> pl.DataFrame:
    """Scores of cells, and beside each what its variant costs on its task."""
    shown = {entrant.row: shown_name(plan, entrant) for entrant in plan.suite.entrants}
    rows = [
        (name, task.name, cost.tokens, float(cost.macs))
        for row, name in shown.items()
        for task in plan.suite.tasks
        if (cost := costs.get((row.variant, task.name))) is not None
    ]
    keys = ("variant", "task", *COSTS)
    beside = pl.DataFrame(rows, schema={k: SCORE_SCHEMA[k] for k in keys}, orient="row")
    joined = scores.join(beside, on=["variant", "task"], how="left", maintain_order="left")
    return joined.select(list(SCORE_SCHEMA))


def _curves(plan: Plan) -> pl.DataFrame:
    """Cost at other image sizes and time steps, around the input of the suite's first task."""
    task = plan.suite.tasks[0]
    dataset = plan.dataset_of(task)
    rows = [
        {
            "variant": shown_name(plan, entrant),
            "axis": point.axis,
            "value": point.value,
            "patch_size": task.patch_size,
            "tokens": point.tokens,
            "macs": float(point.macs.total),
            "macs_attention": float(point.macs.attention),
        }
        for entrant in plan.suite.entrants
        if not isinstance(given := given_input(entrant, task, dataset), str)
        for point in cost_curve(entrant.variant, given.shapes, task.patch_size)
    ]
    return pl.DataFrame(rows, schema=CURVE_SCHEMA, orient="row")


def _run_info(
    plan: Plan, manifest: Manifest, absent: Collection[str], broken: Mapping[str, str]
) -> RunInfo:
    suite = plan.suite
    missing = [
        MissingCell(shown_name(plan, m.entrant), m.task.name, m.seed, m.reason)
        for m in plan.missing
    ]
    missing += [
        MissingCell(
            shown_name(plan, cell), cell.task.name, cell.seed, broken.get(cell.key, NOT_COMPUTED)
        )
        for cell in plan.cells
        if cell.key in absent
    ]
    return RunInfo(
        suite=suite.name,
        title=suite.title,
        description=suite.description,
        suite_hash=plan.key,
        seeds=suite.seeds,
        tasks=tuple(_task_info(plan, task) for task in suite.tasks),
        missing=tuple(missing),
        versions=manifest.versions,
        git_commit=manifest.git_commit,
        command=manifest.command,
        mix_tiers=suite.mix_tiers,
        notes=_notes(plan),
        study=study_facts(plan),
    )


def _notes(plan: Plan) -> tuple[str, ...]:
    notes = [*left_out_sentences(plan)]
    if any(entrant.tier == "random" for entrant in plan.suite.entrants):
        notes.append(
            "Random weights: encoders are untrained, seeded initialisations. Their scores say what "
            "an architecture gives away for free, not what a trained model reaches."
        )
    if any(entrant.tier == "study" for entrant in plan.suite.entrants):
        notes.append(
            "Study weights: trained by this project itself, at small scale. They are not the "
            "published checkpoints and say nothing of their scores; what they were trained on is "
            "told under Study weights."
        )
    if any(entrant.tier == BASELINE for entrant in plan.suite.entrants):
        notes.append(
            "Baselines: image statistics, random projections and random convolutions, in which "
            "nothing is trained. A trained variant that does not beat them has learned nothing "
            "of use for the task."
        )
    notes += bfloat16_sentences(plan)
    for entrant in plan.suite.entrants:
        notes += entrant.variant.notes
    for dataset in plan.datasets.values():
        notes += _level_notes(plan, dataset.card)
    for cell in plan.cells:
        notes += cell.given.notes
    return tuple(dict.fromkeys(notes))


def bfloat16_sentences(plan: Plan) -> tuple[str, ...]:
    """Which tasks have embeddings that another precision would round otherwise."""
    half = [task.name for task in plan.suite.tasks if task.precision == "bfloat16"]
    if not half:
        return ()
    word = "Task" if len(half) == 1 else "Tasks"
    which = "All tasks" if len(half) == len(plan.suite.tasks) else f"{word} {', '.join(half)}"
    return (
        f"{which}: encoders take their products in bfloat16, which moves scores a little; compare "
        "them with others in bfloat16 only.",
    )


def _level_notes(plan: Plan, card: DatasetCard) -> list[str]:
    """A sentence when encoders are fed another processing level than they were made for."""
    made_for: dict[str, list[str]] = {}
    for entrant in plan.suite.entrants:
        needs = design_of(entrant.variant).needs
        if level_mismatch(needs, card):
            made_for.setdefault(needs.level, []).append(entrant.variant.family)
    return [
        f"{card.name} is {_LEVELS.get(card.level, card.level)}, while encoders of "
        f"{' and '.join(dict.fromkeys(families))} were made for {_LEVELS[level]}; published "
        "evaluations do the same."
        for level, families in made_for.items()
    ]


_LEVELS = {"L1C": "L1C (top of atmosphere)", "L2A": "L2A (surface reflectance)"}


def _task_info(plan: Plan, task: Task) -> TaskInfo:
    dataset = plan.dataset_of(task)
    card, splits = dataset.card, dict(dataset.splits(task.split_seed))
    if task.label_fraction is not None:  # another seed draws others, as many
        few = (dataset.labels, card.kind, splits["train"], task.label_fraction)
        splits["train"] = few_labels(*few, seed=plan.suite.seeds[0])
    return TaskInfo(
        name=task.name,
        dataset=card.name,
        title=card.title,
        origin=card.origin,
        metric=task.metric,
        unit=unit_of(task.metric, card),
        higher_is_better=metric(task.metric).higher_is_better,
        protocol=protocol_sentence(task),
        probe=probe_name(task.probe)
        + (f"-labels-{task.label_fraction:.3g}" if task.label_fraction is not None else "")
        + (HALVED if task.precision == "bfloat16" else ""),
        bands=_bands_given(card),
        partition=task.data.partition or "default",
        height=card.height,
        width=card.width,
        steps=card.steps,
        patch_size=task.patch_size,
        n_train=len(splits["train"]),
        n_val=len(splits["val"]),
        n_test=len(splits["test"]),
        classes=card.classes,
        fingerprint=dataset.fingerprint,
        licence=card.licence,
        notes=(
            *((f"Errors are in {card.unit}.",) if unit_of(task.metric, card) else ()),
            f"Split: {card.split_rule}.",
            *_leaks(dataset, task.split_seed),
            *card.notes,
        ),
    )


def unit_of(metric_name: str, card: DatasetCard) -> str:
    """In what a score is measured: an error in what the numbers are, all else in nothing."""
    return "" if metric(metric_name).higher_is_better else card.unit


def _bands_given(card: DatasetCard) -> tuple[str, ...]:
    """Bands that an encoder is given: a data set may hold others (B10), which nobody reads."""
    return tuple(
        sorted(
            band
            for name, bands in card.bands.items()
            for band in bands
            if band in modality(name).band_names
        )
    )


def _leaks(dataset: Dataset, split_seed: int) -> tuple[str, ...]:
    """A sentence when the splits share pixels; a published split is not rearranged."""
    if not isinstance(dataset, HasDigests):
        return ()
    straddling = find_duplicates(dataset, split_seed).straddling
    if not straddling:
        return ()
    return (
        f"{len(straddling)} groups of samples with identical pixels stand in more than one split "
        f"(e.g. {', '.join(straddling[0][:2])}): scores may be too high.",
    )


def probe_name(probe: AnyProbe) -> str:
    """Probe and settings in short; scores of equally named probes are comparable."""
    if isinstance(probe, SegmentationProbe):
        return f"{probe.kind}-{probe.head}-{probe.epochs}-epochs"
    if isinstance(probe, LinearProbe):
        return f"linear-{probe.sampler}-{probe.epochs}-epochs"
    if isinstance(probe, AttentionProbe | FinetuneProbe):
        return f"{probe.kind}-{probe.epochs}-epochs"
    votes = f"exp-{probe.temperature:g}" if probe.weights == "exp" else "uniform"
    return f"knn-{probe.k}-{probe.metric}-{votes}"


def protocol_sentence(task: Task) -> str:
    """The probe and its settings, in words."""
    views = (
        f"normalisation ({' or '.join(task.normalisations)}) and pooling "
        f"({' or '.join(task.poolings)}) chosen on the validation split"
    )
    if task.label_fraction is not None:
        views += f"; {task.label_fraction:.3g} of the training labels, drawn anew for each seed"
    if task.precision == "bfloat16":
        views += "; encoders' products in bfloat16"
    if isinstance(task.probe, KnnProbe):
        return f"{_knn_words(task.probe)}; {views}; scored once on test."
    if isinstance(task.probe, SegmentationProbe):
        return f"{_map_words(task.probe)}; {views}; scored once on test."
    if isinstance(task.probe, AttentionProbe):
        return f"{_attention_words(task.probe)}; {views}; scored once on test."
    if isinstance(task.probe, FinetuneProbe):
        return f"{_finetune_words(task.probe)}; {views}; scored once on test."
    return f"{_linear_words(task.probe)}; {views}; scored once on test."


def _knn_words(probe: KnnProbe) -> str:
    if probe.weights == "exp":
        votes = f"votes weighted by exp(similarity / {probe.temperature:g})"
    else:
        votes = "equal votes"
    nearest = "cosine similarity" if probe.metric == "cosine" else "Euclidean distance"
    return f"kNN, k = {probe.k}, {nearest}, {votes}"


def _map_words(probe: SegmentationProbe) -> str:
    name, what = ("segmentation", "classes")
    if probe.kind == "pixel_regression":
        name, what = ("pixel regression", "number")
    to = f"each pixel's {what}" if probe.head == "linear" else f"its {what}, enlarged bilinearly"
    return (
        f"{name} probe (one linear layer from each patch to {to}, AdamW, cosine schedule, "
        f"{probe.epochs} epochs, batches of {probe.batch_size} images), the published rates"
    )


def _attention_words(probe: AttentionProbe) -> str:
    return (
        "attention pooling (a learned query over the patches, BatchNorm and one linear layer, "
        f"AdamW, cosine schedule, {probe.epochs} epochs, batches of {probe.batch_size}), the "
        "published rates"
    )


def _finetune_words(probe: FinetuneProbe) -> str:
    return (
        "fine-tuning of the whole encoder below one linear layer (AdamW, cosine "
        f"schedule, up to {probe.epochs} epochs, the encoder frozen for the first "
        f"{probe.frozen:.0%}, stopped after {probe.patience} without a better validation score, "
        f"batches of {probe.batch_size}), {probe.trials} TPE trials over the learning rate, pruned "
        "by the median"
    )


def _linear_words(probe: LinearProbe) -> str:
    search = (
        "the published grid of learning rates"
        if probe.sampler == "grid"
        else f"{probe.trials} {probe.sampler.upper()} trials over learning rate and weight decay"
    )
    return (
        f"linear probe (BatchNorm and one linear layer, AdamW, cosine schedule, {probe.epochs} "
        f"epochs, batches of {probe.batch_size}), {search}"
    )
