"""What a pretraining costs: MACs of encoder, predictor, targets and loss, in closed form.

Forward and backward: a product of two things that train takes three, one with what does not train
(pixels, targets) two, one that nothing trains through (the targets' projection) one. Expected
values over the roles that a masking strategy draws and over the setting's crops; a test holds them
against a counter that watches the real modules. It must not know how a training is run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from itertools import combinations
from math import comb

from models.cost import closed_form_macs, transformer_macs
from models.olmoearth.config import OlmoEarthConfig, config_of
from models.pretraining.crops import CropShape, crop_shapes
from models.pretraining.loop import Job, of_modalities
from models.pretraining.masking import Grid, Grids, Strategy
from models.pretraining.recipe import Recipe
from models.tokens import InputShape


@dataclass(frozen=True)
class Roles:
    """How many tokens of a sample are encoded, and decoded per modality, and how often."""

    probability: float
    encoded: int
    decoded: Mapping[str, int]


@dataclass(frozen=True)
class TrainingMacs:
    """Forward and backward MACs of one sample seen in both views, by where they are spent.

    ``loss``: the similarities of both losses and the contrast's own layer. Padding of a batch to
    its longest sample is not counted, nor what enlarges images to the embedding's patch.
    """

    patch_embedding: float = 0.0
    encoder: float = 0.0
    predictor: float = 0.0
    targets: float = 0.0
    loss: float = 0.0

    @property
    def total(self) -> float:
        """All of them."""
        return float(sum(getattr(self, field.name) for field in fields(self)))

    def plus(self, other: TrainingMacs, weight: float = 1.0) -> TrainingMacs:
        """The sum, the other one weighted."""
        names = [field.name for field in fields(self)]
        return TrainingMacs(*(getattr(self, n) + weight * getattr(other, n) for n in names))


def training_macs(job: Job) -> TrainingMacs:
    """Expected MACs of one sample of a job: the mean over the crops that a step may draw.

    Samples count as many time steps as the chip with fewest has: where chips differ in that, a
    batch without that chip has more, and this is a lower bound. Raises `UserError` where the job
    can draw no crop.
    """
    scheme = of_modalities(job.variant.scheme, job.modalities)
    config = replace(config_of(job.variant), scheme=scheme)
    shapes = crop_shapes(job.setting.crops, job.chips, scheme)
    steps = int(job.chips.sizes[:, 2].min())
    part = job.setting.batch // job.setting.accumulate
    mean = TrainingMacs()
    for shape in shapes:
        grids = {
            name: Grid(shape.side, shape.side, steps, len(scheme.of(name)))
            for name in scheme.groups
        }
        for roles in expected_roles(job.recipe.masking, grids):
            found = macs_of_roles(config, job.recipe, shape, steps, roles, part)
            mean = mean.plus(found, roles.probability / len(shapes))
    return mean


def pretraining_macs(job: Job) -> int:
    """All MACs of a job, forward and backward, from its first sample to its last."""
    return round(training_macs(job).total * job.steps * job.setting.batch)


def macs_of_roles(
    config: OlmoEarthConfig,
    recipe: Recipe,
    shape: CropShape,
    steps: int,
    roles: Roles,
    batch: int,
) -> TrainingMacs:
    """MACs of one sample of a batch, both of whose views have the same numbers of roles."""
    inputs = [InputShape(shape.pixels, shape.pixels, steps, name) for name in config.scheme.groups]
    # The targets' projection is linear in the pixels whatever the encoder's embedding is.
    linear = replace(config, pixel_hidden=None)
    blocks = transformer_macs(roles.encoded, config.dim, config.depth, config.mlp_ratio)
    targets = closed_form_macs(linear, inputs, shape.patch_size).patch_embedding
    embedding = closed_form_macs(config, inputs, shape.patch_size).patch_embedding
    # What reads pixels has no gradient to pass on.
    reads = targets * config.pixel_hidden // config.dim if config.pixel_hidden else embedding
    # Predictions with targets; targets among themselves, to find near-duplicates.
    similarities = 2 if recipe.near_duplicate is None else 3
    view = TrainingMacs(
        patch_embedding=2 * reads + 3 * (embedding - reads),
        encoder=3 * blocks.total,
        predictor=3
        * sum(
            _predictor_macs(config.dim, recipe.decoder_depth, roles.encoded, decoded)
            for decoded in roles.decoded.values()
        ),
        targets=targets,
        loss=3 * config.dim**2
        + sum(similarities * m**2 * config.dim for m in roles.decoded.values()),
    )
    return TrainingMacs(loss=3 * batch * config.dim).plus(view, 2)


def _predictor_macs(dim: int, depth: int, context: int, asked: int) -> int:
    """Of one modality's predictions: its cross-attention reads all that was encoded.

    Per block: queries, output and the MLP (ratio 4) of what is asked, keys and values of the
    context, and the two products of attention.
    """
    block = 10 * asked * dim**2 + 2 * context * dim**2 + 2 * asked * context * dim
    return context * dim**2 + depth * block + asked * dim**2


# --- what a strategy draws ----------------------------------------------------------------------


def expected_roles(strategy: Strategy, grids: Grids) -> list[Roles]:
    """All numbers of tokens that `models.pretraining.masking` may draw, with their probability."""
    draw = {"band-groups": _band_groups, "random-and-time": _random_and_time}[strategy]
    return list(draw(grids))


def _band_groups(grids: Grids) -> Iterator[Roles]:
    """Some of G groups are encoded, each number as likely; others, and a coin's choice, decoded."""
    total = sum(grid.groups for grid in grids.values())
    least = min(2, total)
    places = {name: grid.tokens // grid.groups for name, grid in grids.items()}
    for k in range(least, total + 1):
        for both in range(k + 1):
            # Where no coin falls and nothing else is left, one group is decoded all the same.
            decoded = max(1, total - k + both)
            probability = comb(k, both) / 2**k / (total - least + 1)
            yield from _spread_over(grids, places, k, decoded, probability)


def _spread_over(
    grids: Grids, places: Mapping[str, int], k: int, decoded: int, probability: float
) -> Iterator[Roles]:
    """Which modalities the decoded groups belong to; places are the same for all modalities."""
    names = list(grids)
    encoded = k * _larger_half(max(places.values()))
    total = sum(grid.groups for grid in grids.values())

    def ways(first: int, left: int) -> Iterator[tuple[int, dict[str, int]]]:
        if first == len(names):
            if left == 0:
                yield 1, {}
            return
        name = names[first]
        for here in range(min(left, grids[name].groups) + 1):
            for count, rest in ways(first + 1, left - here):
                tokens = here * (places[name] // 2)
                yield comb(grids[name].groups, here) * count, {name: tokens, **rest}

    for count, tokens in ways(0, decoded):
        yield Roles(probability * count / comb(total, decoded), encoded, tokens)


def _random_and_time(grids: Grids) -> Iterator[Roles]:
    """Half of the samples by time step where there are several, the others at random."""
    steps = max(grid.steps for grid in grids.values())
    by_time = 0.5 if steps > 1 else 0.0
    yield from _at_random(grids, 1 - by_time)
    if by_time:
        per_step = {name: grid.tokens // grid.steps for name, grid in grids.items()}
        encoded = _larger_half(steps) * sum(per_step.values())
        decoded = {name: steps // 2 * tokens for name, tokens in per_step.items()}
        yield Roles(by_time, encoded, decoded)


def _at_random(grids: Grids, probability: float) -> Iterator[Roles]:
    names = list(grids)
    if len(names) == 1:
        tokens = grids[names[0]].tokens
        yield Roles(probability, _larger_half(tokens), {names[0]: tokens // 2})
        return
    half = {name: _larger_half(grid.tokens) for name, grid in grids.items()}
    for count in range(1, len(names)):
        for seen in combinations(names, count):
            yield Roles(
                probability / (len(names) - 1) / comb(len(names), count),
                sum(half[name] for name in seen),
                {name: 0 if name in seen else half[name] for name in names},
            )


def _larger_half(count: int) -> int:
    return (count + 1) // 2
