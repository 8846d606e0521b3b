"""What one step is trained on: two normalised, masked views of a batch, made ahead of time.

A batch follows from (recipe, seed, step) alone, whoever makes it and on however many
processes it is shared out. It must not know weights or losses.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from models.initialisation import generator_of
from models.olmoearth.patches import enlarged
from models.pretraining.band_dropout import drop_bands, kept_bands
from models.pretraining.chips import Chips
from models.pretraining.crops import CropShape, Look, crop_shapes, look, rows_of, stream
from models.pretraining.masking import Grid, draw_roles
from models.pretraining.normalising import Statistics, normalised
from models.pretraining.pretrainer import View
from models.pretraining.recipe import Recipe, Setting
from models.sensors import modality
from models.tokens import MAX_PATCH_SIZE, TokenScheme


@dataclass(frozen=True)
class Batch:
    """Two views of the same samples, enlarged to patches of `MAX_PATCH_SIZE` pixels a side.

    ``shape`` is that of the crops as they were cut.
    """

    views: tuple[View, View]
    shape: CropShape

    @property
    def spacing(self) -> float:
        """Distance of patches in units of 10 m; chips are taken to have pixels of 10 m."""
        return float(self.shape.patch_size)

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""
        a, b = (
            View(
                {k: v.to(device, non_blocking=True) for k, v in view.images.items()},
                {k: v.to(device, non_blocking=True) for k, v in view.seen.items()},
                view.timestamps.to(device, non_blocking=True),
                {k: v.to(device, non_blocking=True) for k, v in view.roles.items()},
            )
            for view in self.views
        )
        return Batch((a, b), self.shape)


@dataclass(frozen=True)
class Share:
    """Which part of every batch this process works on: number ``rank`` of ``world`` equal ones."""

    rank: int = 0
    world: int = 1


@dataclass(frozen=True)
class BatchMaker:
    """Makes any part of any step's batch.

    A step's ``batch`` samples are cut into ``accumulate`` parts, and each of those into one
    share per process. Everything random is drawn for the whole part, but only this process's
    samples are read: two processes see exactly what one would, at half of the work each.
    """

    recipe: Recipe
    setting: Setting
    scheme: TokenScheme
    chips: Chips
    statistics: Statistics
    seed: int
    share: Share = Share()

    @cached_property
    def shapes(self) -> tuple[CropShape, ...]:
        """The shapes that a step may draw; `UserError` where there are none."""
        return crop_shapes(self.setting.crops, self.chips, self.scheme)

    def make(self, step: int, part: int) -> Batch:
        """Part number ``part`` of step number ``step``; images are float32, on the CPU."""
        drawn = int(stream("shape", self.seed, step).integers(len(self.shapes)))
        shape = self.shapes[drawn]
        size = self.setting.batch // self.setting.accumulate
        rows = rows_of(step, self.setting.batch, len(self.chips), self.seed)
        rows = rows[part * size : (part + 1) * size]
        own = self.setting.views.crop == "own"
        views = []
        for number in (0, 1):
            key = (self.seed, step, part)
            seen = look(
                self.chips,
                rows,
                shape,
                self.setting.views,
                stream("places", *key, number if own else 0),
                stream("factors", *key, number),
                self._mine(size),
            )
            views.append(self._view(seen, shape, size, (step, part, number)))
        return Batch((views[0], views[1]), shape)

    def _view(self, seen: Look, shape: CropShape, size: int, at: tuple[int, int, int]) -> View:
        """This process's share of a view of ``size`` samples; ``at``: step, part, which look."""
        step, part, number = at
        generator = generator_of(f"view:{self.seed}:{step}:{part}:{number}")
        mine = self._mine(size)
        images = {
            name: _enlarged(normalised(seen.images[name], statistics), shape.patch_size)
            for name, statistics in self.statistics.items()
        }
        grids = {
            name: Grid(shape.side, shape.side, x.shape[3], len(self.scheme.of(name)))
            for name, x in images.items()
        }
        roles = draw_roles(self.recipe.masking, grids, size, generator)
        dropped = dict(images)
        if self.recipe.band_dropout is not None:
            rate = self.recipe.band_dropout * float(stream("dropout", self.seed, step).random())
            for name, x in images.items():
                if modality(name).is_optical:
                    kept = kept_bands(size, x.shape[-1], rate, generator)
                    dropped[name] = drop_bands(x, kept[mine])
        return View(
            images,
            dropped,
            torch.from_numpy(seen.timestamps),
            {name: role[mine] for name, role in roles.items()},
        )

    def _mine(self, count: int) -> slice:
        each = count // self.share.world
        return slice(self.share.rank * each, (self.share.rank + 1) * each)


def _enlarged(images: Tensor, patch_size: int) -> Tensor:
    """Patches of the embedding's own side: once for encoder and targets, which would do it each.

    No band sees another in it, so bands may be dropped afterwards as well as before.
    """
    batch, _, _, steps, bands = images.shape
    x = enlarged(images, patch_size, MAX_PATCH_SIZE)
    return x.view(batch, steps, bands, *x.shape[-2:]).permute(0, 3, 4, 1, 2).contiguous()


def ahead(maker: BatchMaker, first: int, steps: int, workers: int = 1) -> Iterator[list[Batch]]:
    """The batches (all parts) of steps ``first .. steps``, made while the one before is used."""
    parts = range(maker.setting.accumulate)

    def all_parts(step: int) -> list[Batch]:
        return [maker.make(step, part) for part in parts]

    with ThreadPoolExecutor(workers, thread_name_prefix="batches") as pool:
        waiting = [pool.submit(all_parts, s) for s in range(first, min(steps, first + workers))]
        for step in range(first, steps):
            made = waiting.pop(0).result()
            if step + workers < steps:
                waiting.append(pool.submit(all_parts, step + workers))
            yield made
