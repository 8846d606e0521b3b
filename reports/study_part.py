"""The part of the page that says what study weights are: recipes, data, length, limits.

It must know nothing of HTML, Markdown or files, or of how anything was trained.
"""

from __future__ import annotations

from reports import words
from reports.document import Part
from reports.study import images, trained_on
from reports.table import SuiteResults
from reports.tables import Cell, Table, without_empty_columns


def study_part(results: SuiteResults) -> Part:
    """Recipes, data, length and limits of the study weights; empty without any."""
    study = results.run.study
    if not study:
        return Part("Study weights")
    limits = [limit for each in study for limit in each.limits]
    codes = {code for each in study for code in each.code}
    if len(codes) > 1:
        limits.append(
            f"They were trained by {len(codes)} versions of the training code "
            f"({', '.join(sorted(codes))}): a difference may be the program's."
        )
    licences = {each.data_title: each.data_licence for each in study}
    data = "; ".join(f"{title}: {licence}" for title, licence in licences.items())
    return Part(
        "Study weights",
        paragraphs=(
            "These encoders were trained by this project itself, at small scale, on "
            f"{trained_on(results)}. They are not the published checkpoints, and their scores say "
            "nothing of those. Where one training seed is named, every seed of the suite has the "
            f"same weights; else each has its own. Licence of the training images: {data}.",
        ),
        tables=(study_table(results),),
        bullets=tuple(dict.fromkeys(limits)),
    )


def study_table(results: SuiteResults) -> Table:
    """One row per set of study weights: recipe, data, length, cost of the training."""
    columns = ("Variant", "Recipe", "Setting", "Trained on", "Training seeds", "Steps", "Samples")
    rows = tuple(
        (
            Cell(each.variant, each.variant),
            Cell(each.recipe, each.recipe, note=each.recipe_hash),
            Cell(each.setting or words.NO_VALUE, each.setting or None),
            Cell(images(each), each.data_count, note=each.data_fingerprint),
            Cell(", ".join(map(str, each.training_seeds)), each.training_seeds[0]),
            Cell(words.count(each.steps), each.steps),
            Cell(words.count(each.samples_seen), each.samples_seen),
            Cell(words.quantity(each.pretraining_macs), each.pretraining_macs),
        )
        for each in results.run.study
    )
    numeric = (False, False, False, False, False, True, True, True)
    return without_empty_columns(Table((*columns, "MACs of the training"), numeric, rows))
