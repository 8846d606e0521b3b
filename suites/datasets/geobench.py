"""GEO-Bench v1 data sets: HDF5 samples, published splits, labels in a pickled attribute.

What differs between its data sets stands in one table (`geobench_specs`); so do the corrections
of those whose arrays carry wrong band names. Source: A. Lacoste et al., GEO-Bench (2023). Knows
nothing of models; labels are read with `suites.datasets.inert`, which executes nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from models.errors import UserError, did_you_mean
from suites.datasets import eurosat
from suites.datasets.base import Batch, DatasetCard
from suites.datasets.digests import DigestCache, Progress, digest_files, fingerprint, pixel_digest
from suites.datasets.digital_numbers import MOST_REFLECTANCE
from suites.datasets.geobench_specs import BAND_ORDERS, SPECS, BandOrder, Spec, spec_of
from suites.datasets.inert import array_of, read_pickle_literal
from suites.datasets.partitions import read_partition

ARCHIVE = "geobench_v1"
LABEL = "label"
READER = "geobench-2"
_DATE = re.compile(r"_(\d{4})-(\d{2})-(\d{2})$")

__all__ = ["BAND_ORDERS", "SPECS", "GeoBench", "Spec", "find_folder", "read_sample", "spec_of"]


@dataclass(frozen=True)
class GeoBenchSample:
    """One HDF5 sample: ``image`` ``[H, W, D]`` in array order, its label, its date if it has one.

    ``label``: a class index; 0 or 1 for each label; or a class for each pixel ``[H, W]``.
    """

    image: npt.NDArray[np.float32]
    label: int | tuple[int, ...] | npt.NDArray[np.int16]
    date: date | None


def find_folder(data_dir: Path, name: str) -> Path | None:
    """Where a GEO-Bench data set lies under a data directory, or ``None``."""
    spec = spec_of(name)
    for root in (data_dir / ARCHIVE / spec.part, data_dir / spec.part):
        for spelt in (spec.folder, name):
            if (root / spelt).is_dir():
                return root / spelt
    return None


def read_sample(path: Path, spec: Spec) -> GeoBenchSample:
    """One sample, checked. Raises `UserError` naming the file that is broken."""
    try:
        with h5py.File(path, "r") as file:
            found = [_array(file, name, path, spec) for name in spec.arrays]
            label = _map(file, path, spec) if spec.kind == "maps" else None
            record = file.attrs.get("pickle")
    except FileNotFoundError:
        raise UserError(f"{path} is missing; fetch {spec.name} again.") from None
    except OSError as error:
        raise UserError(
            f"{path} is not a readable HDF5 file: it is damaged or truncated "
            f"({str(error).splitlines()[0]}); fetch it again or remove it."
        ) from None
    image = np.stack([values for values, _ in found], axis=-1)
    if not np.isfinite(image).all():
        raise UserError(f"{path} holds values that are not numbers (NaN or infinite); remove it.")
    if np.array_equal(image.max(axis=(0, 1)), image.min(axis=(0, 1))):
        raise UserError(f"{path} is constant (every pixel is the same); remove it.")
    _check_units(image, path, spec)
    dates = {when for _, when in found}
    if len(dates) > 1:
        raise UserError(f"{path} mixes bands of several dates; fetch it again or remove it.")
    given = _label(record, path, spec) if label is None else label
    return GeoBenchSample(image, given, dates.pop())


def _array(
    file: Any, name: str, path: Path, spec: Spec
) -> tuple[npt.NDArray[np.float32], date | None]:
    """A band and the date after its name."""
    dated = [key for key in file if key.startswith(f"{name}_") and _DATE.search(key)]
    keys = [name] if name in file else dated
    if not keys:
        raise UserError(
            f'{path} has no array "{name}"; a {spec.name} sample holds {", ".join(spec.arrays)}. '
            "Fetch it again or remove it."
        )
    if len(keys) > 1:
        raise UserError(f'{path} holds "{name}" of {len(keys)} dates; one is expected.')
    when = _date(keys[0], path)
    values = _square(file[keys[0]], keys[0], path, spec)
    if values.dtype.kind not in "iuf":
        raise UserError(f'{path}: array "{name}" holds {values.dtype} values, not numbers.')
    return values.astype(np.float32), when


def _date(key: str, path: Path) -> date | None:
    found = _DATE.search(key)
    try:
        return date(*map(int, found.groups())) if found else None
    except ValueError:
        raise UserError(f'{path}: the date of array "{key}" is none; fetch it again.') from None


def _check_units(image: npt.NDArray[np.float32], path: Path, spec: Spec) -> None:
    """Refuse reflectance among digital numbers and the other way round; 8-bit sets are let pass."""
    if spec.modality != "sentinel2_l2a":
        return
    brightest = float(image.max())
    if spec.units_per_dn == 1.0 and brightest < MOST_REFLECTANCE:
        held, meant = "reflectance", "digital numbers"
    elif spec.units_per_dn > 1.0 and brightest > 10 * MOST_REFLECTANCE:
        held, meant = "digital numbers", "reflectance"
    else:
        return
    raise UserError(
        f"{path} holds {held} (up to {brightest:.4g}), but {spec.name} is stored as {meant}: its "
        "units are mixed up; fetch it again or remove it."
    )


def _square(array: Any, name: str, path: Path, spec: Spec) -> npt.NDArray[Any]:
    if not isinstance(array, h5py.Dataset):
        raise UserError(f'{path}: "{name}" is no array; fetch it again or remove it.')
    values = np.asarray(array[...])
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[..., 0]
    if values.shape != (spec.side, spec.side):
        raise UserError(
            f'{path}: array "{name}" has shape {values.shape}, but {spec.name} has '
            f"{spec.side} x {spec.side} pixels; fetch it again or remove it."
        )
    return values


def _map(file: Any, path: Path, spec: Spec) -> npt.NDArray[np.int16]:
    if LABEL not in file:
        raise UserError(f'{path} has no array "{LABEL}" with its classes; fetch it again.')
    values = _square(file[LABEL], LABEL, path, spec)
    if values.dtype.kind not in "iu" or values.min() < 0 or values.max() >= len(spec.classes):
        raise UserError(
            f"{path}: its labels run from {values.min()} to {values.max()}, but {spec.name} has "
            f"classes 0 to {len(spec.classes) - 1}; fetch it again."
        )
    return values.astype(np.int16)


def _label(record: object, path: Path, spec: Spec) -> int | tuple[int, ...]:
    if isinstance(record, bytes):
        record = record.decode("utf-8", "replace")
    if not isinstance(record, str):
        raise UserError(f"{path} has no metadata record (attribute pickle); fetch it again.")
    content = read_pickle_literal(record, str(path))
    label = content.get(LABEL) if isinstance(content, dict) else None
    if spec.kind == "labels":
        return _labels(label, path, spec)
    if isinstance(label, bool) or not isinstance(label, int):
        raise UserError(f"{path}: its metadata record holds no class label; fetch it again.")
    if not 0 <= label < len(spec.classes):
        raise UserError(
            f"{path}: class label {label} is out of range; {spec.name} has classes 0 to "
            f"{len(spec.classes) - 1}."
        )
    return label


def _labels(label: object, path: Path, spec: Spec) -> tuple[int, ...]:
    """Of several labels, 0 or 1 for each: a NumPy array in the record, or a list."""
    found = array_of(label)
    values = found.tolist() if found is not None else label
    if not isinstance(values, list) or len(values) != len(spec.classes):
        raise UserError(
            f"{path}: its metadata record holds no {len(spec.classes)} labels; fetch it again."
        )
    if any(value not in (0, 1) for value in values):
        raise UserError(f"{path}: its labels are not all 0 or 1; fetch it again.")
    return tuple(int(value) for value in values)


class GeoBench:
    """One GEO-Bench v1 data set. Implements `suites.datasets.base.Dataset`.

    ``partition`` names the published split (``default``, ``0.01x_train``...);
    ``band_order`` is ``"corrected"`` (true band names) or ``"as-published"`` (to
    reproduce published numbers). Raises `UserError` for anything missing.
    """

    def __init__(
        self,
        folder: Path,
        name: str = "m-eurosat",
        *,
        partition: str = "default",
        band_order: str = "corrected",
        cache_dir: Path | None = None,
    ) -> None:
        self._spec = spec_of(name)
        if band_order not in BAND_ORDERS:
            raise UserError(
                f'Unknown band order "{band_order}" for {name}: '
                f"{did_you_mean(band_order, BAND_ORDERS)}."
            )
        self._order: BandOrder = "corrected" if band_order == "corrected" else "as-published"
        self._partition = partition
        self._split = read_partition(folder, partition)
        self._ids = tuple(sorted((i for ids in self._split.values() for i in ids), key=_number))
        self._paths = [folder / f"{name}.hdf5" for name in self._ids]
        missing = [path.name for path in self._paths if not path.is_file()]
        if missing:
            raise UserError(
                f"{folder} lacks {len(missing)} of the {len(self._paths)} samples of partition "
                f'"{partition}" ({missing[0]} is the first); '
                f'run "tokenrank data get {name}" or choose another partition.'
            )
        self._cache = DigestCache.of(cache_dir, folder, f"{READER}-{name}")
        self._records: list[dict[str, Any]] | None = None

    @cached_property
    def card(self) -> DatasetCard:
        """What a reader must know; its notes say which band order is in force."""
        spec = self._spec
        dated = _is_dated(self._paths[0])
        assumed = "The samples carry no dates: 1 July 2020 is assumed for every sample."
        return DatasetCard(
            name=spec.name,
            title=spec.title
            + " (as-published band order)" * (self._order != "corrected" and bool(spec.correction)),
            origin="real",
            licence=spec.licence,
            home="https://huggingface.co/datasets/recursix/geo-bench-1.0",
            level=spec.level,
            classes=spec.classes,
            bands={spec.modality: spec.bands(self._order)},
            height=spec.side,
            width=spec.side,
            steps=1,
            units_per_dn=spec.units_per_dn,
            split_rule=f"published (GEO-Bench partition {self._partition})",
            notes=(*spec.notes, *self._order_notes(), *(() if dated else (assumed,))),
            kind=spec.kind,
        )

    def _order_notes(self) -> tuple[str, ...]:
        said = self._spec.correction
        if not said:
            return ()
        if self._order == "corrected":
            return (f"Band names are corrected: in the published files {said}.",)
        return (f"Band names are AS PUBLISHED and known to be wrong: {said}.",)

    @property
    def ids(self) -> Sequence[str]:
        """``id_N`` of every sample in the partition, by number."""
        return self._ids

    @cached_property
    def labels(self) -> npt.NDArray[Any]:
        """Of each sample, by kind (`suites.datasets.base.Dataset.labels`)."""
        if self._spec.kind == "maps":
            return np.stack([self._map_of(path) for path in self._paths])
        kind = np.uint8 if self._spec.kind == "labels" else np.int64
        return np.array([record["label"] for record in self._read_records()], dtype=kind)

    def _map_of(self, path: Path) -> npt.NDArray[np.int16]:
        try:
            with h5py.File(path, "r") as file:
                return _map(file, path, self._spec)
        except OSError as error:
            raise UserError(f"{path} cannot be read: {str(error).splitlines()[0]}.") from None

    def digests(self, progress: Progress | None = None) -> Sequence[str]:
        """SHA-256 of each sample's pixels; reads and checks every sample that changed."""
        return [record["pixels"] for record in self._read_records(progress)]

    def _read_records(self, progress: Progress | None = None) -> list[dict[str, Any]]:
        # Label and pixel digest come from the same pass over a file, and are remembered together.
        if self._records is None:
            found = digest_files(self._paths, self._record, self._cache, progress)
            self._records = [json.loads(record) for record in found]
        return self._records

    def _record(self, path: Path) -> str:
        sample = read_sample(path, self._spec)
        label = sample.label
        return json.dumps(
            {
                "label": pixel_digest(label) if isinstance(label, np.ndarray) else label,
                "pixels": pixel_digest(sample.image),
                "date": sample.date.isoformat() if sample.date else None,
            }
        )

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over band names, classes, ids, labels, pixels and the published split."""
        spec = self._spec
        facts = [READER, *spec.arrays, *spec.bands(self._order), *spec.classes]
        for name, record in zip(self._ids, self._read_records(), strict=True):
            facts.append(f"{name} {json.dumps(record, sort_keys=True)}")
        facts += [f"{split} {name}" for split, ids in self._split.items() for name in ids]
        return fingerprint(facts)

    def splits(self, seed: int) -> Mapping[str, npt.NDArray[np.int64]]:
        """The published partition; the seed changes nothing."""
        row = {name: i for i, name in enumerate(self._ids)}
        return {
            split: np.array(sorted(row[name] for name in ids), dtype=np.int64)
            for split, ids in self._split.items()
        }

    def read(self, rows: Sequence[int]) -> Batch:
        """Images ``[B, H, W, 1, D]`` float32 in stored units, and their dates."""
        side, depth = self._spec.side, len(self._spec.arrays)
        images = np.empty((len(rows), side, side, 1, depth), dtype=np.float32)
        dates = np.tile(np.array(eurosat.ASSUMED_DATE, dtype=np.int64), (len(rows), 1, 1))
        for i, row in enumerate(rows):
            sample = read_sample(self._paths[row], self._spec)
            images[i, :, :, 0] = sample.image
            if sample.date is not None:
                dates[i, 0] = sample.date.day, sample.date.month - 1, sample.date.year
        return Batch({self._spec.modality: images}, dates)


def _is_dated(path: Path) -> bool:
    """Whether a sample's arrays carry a date; no pixel is read, and a broken file is not judged."""
    try:
        with h5py.File(path, "r") as file:
            return any(_DATE.search(key) for key in file)
    except OSError:
        return False


def _number(name: str) -> tuple[int, str]:
    tail = name.rpartition("_")[2]
    return (int(tail) if tail.isdigit() else -1, name)
