"""GEO-Bench v1 data sets: HDF5 samples, published splits, labels in a pickled attribute.

What differs between its data sets stands in one table (`SPECS`); so does the correction
of m-eurosat, whose last five arrays carry the wrong band names because the archive it
was made from stores B8A last. Source: A. Lacoste et al., GEO-Bench (2023). Knows nothing
of models; labels are read with `suites.datasets.inert`, which executes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
import numpy.typing as npt

from models.errors import UserError, did_you_mean
from suites.datasets import eurosat
from suites.datasets.base import Batch, DatasetCard
from suites.datasets.digests import DigestCache, Progress, digest_files, fingerprint, pixel_digest
from suites.datasets.inert import read_pickle_literal
from suites.datasets.partitions import read_partition

BandOrder = Literal["corrected", "as-published"]
BAND_ORDERS: tuple[BandOrder, ...] = ("corrected", "as-published")
ROOTS = ("geobench_v1/classification_v1.0", "classification_v1.0")
READER = "geobench-1"


@dataclass(frozen=True)
class Spec:
    """The facts of one GEO-Bench data set.

    ``arrays``: HDF5 array names in the order we deliver them. ``published`` and
    ``corrected``: the band each of them is named after, and the band it truly holds.
    """

    name: str
    title: str
    licence: str
    level: str
    classes: tuple[str, ...]
    arrays: tuple[str, ...]
    published: tuple[str, ...]
    corrected: tuple[str, ...]
    side: int
    correction: str

    def bands(self, order: BandOrder) -> tuple[str, ...]:
        """Band names on the last axis under a band order."""
        return self.corrected if order == "corrected" else self.published


SPECS: dict[str, Spec] = {
    "m-eurosat": Spec(
        name="m-eurosat",
        title="GEO-Bench v1 m-eurosat",
        licence="CC BY-SA 4.0 (GEO-Bench), MIT (EuroSAT)",
        level="L1C",
        # The labels follow EuroSAT's alphabetical folders (sample id_1905, label 1, is forest);
        # the name list in the published task_specs.pkl is in another order and is not used.
        classes=eurosat.CLASSES,
        arrays=(
            "01 - Coastal aerosol", "02 - Blue", "03 - Green", "04 - Red",
            "05 - Vegetation Red Edge", "06 - Vegetation Red Edge", "07 - Vegetation Red Edge",
            "08 - NIR", "08A - Vegetation Red Edge", "09 - Water vapour",
            "10 - SWIR - Cirrus", "11 - SWIR", "12 - SWIR",
        ),
        published=(
            "B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08",
            "B8A", "B09", "B10", "B11", "B12",
        ),
        corrected=eurosat.BANDS,
        side=64,
        correction="the arrays named 08A, 09, 10, 11, 12 hold B09, B10, B11, B12, B8A",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class GeoBenchSample:
    """One HDF5 sample: ``image`` ``[H, W, D]`` in array order, and its class index."""

    image: npt.NDArray[np.float32]
    label: int


def find_folder(data_dir: Path, name: str) -> Path | None:
    """Where a GEO-Bench data set lies under a data directory, or ``None``."""
    for root in ROOTS:
        if (data_dir / root / name).is_dir():
            return data_dir / root / name
    return None


def spec_of(name: str) -> Spec:
    """The facts of a data set; a `UserError` names the known ones."""
    try:
        return SPECS[name]
    except KeyError:
        raise UserError(
            f'Unknown GEO-Bench data set "{name}": {did_you_mean(name, SPECS)}.'
        ) from None


def read_sample(path: Path, spec: Spec) -> GeoBenchSample:
    """One sample, checked. Raises `UserError` naming the file that is broken."""
    try:
        with h5py.File(path, "r") as file:
            arrays = [_array(file, name, path, spec) for name in spec.arrays]
            record = file.attrs.get("pickle")
    except FileNotFoundError:
        raise UserError(f"{path} is missing; fetch {spec.name} again.") from None
    except OSError as error:
        raise UserError(
            f"{path} is not a readable HDF5 file: it is damaged or truncated "
            f"({str(error).splitlines()[0]}); fetch it again or remove it."
        ) from None
    image = np.stack(arrays, axis=-1)
    if not np.isfinite(image).all():
        raise UserError(f"{path} holds values that are not numbers (NaN or infinite); remove it.")
    if np.array_equal(image.max(axis=(0, 1)), image.min(axis=(0, 1))):
        raise UserError(f"{path} is constant (every pixel is the same); remove it.")
    return GeoBenchSample(image, _label(record, path, spec))


def _array(file: Any, name: str, path: Path, spec: Spec) -> npt.NDArray[np.float32]:
    if name not in file:
        raise UserError(
            f'{path} has no array "{name}"; a {spec.name} sample holds {", ".join(spec.arrays)}. '
            "Fetch it again or remove it."
        )
    values = np.asarray(file[name][...])
    if values.shape != (spec.side, spec.side):
        raise UserError(
            f'{path}: array "{name}" has shape {values.shape}, but {spec.name} has '
            f"{spec.side} x {spec.side} pixels; fetch it again or remove it."
        )
    if values.dtype.kind not in "iuf":
        raise UserError(f'{path}: array "{name}" holds {values.dtype} values, not numbers.')
    return values.astype(np.float32)


def _label(record: object, path: Path, spec: Spec) -> int:
    if isinstance(record, bytes):
        record = record.decode("utf-8", "replace")
    if not isinstance(record, str):
        raise UserError(f"{path} has no metadata record (attribute pickle); fetch it again.")
    content = read_pickle_literal(record, str(path))
    label = content.get("label") if isinstance(content, dict) else None
    if isinstance(label, bool) or not isinstance(label, int):
        raise UserError(f"{path}: its metadata record holds no class label; fetch it again.")
    if not 0 <= label < len(spec.classes):
        raise UserError(
            f"{path}: class label {label} is out of range; {spec.name} has classes 0 to "
            f"{len(spec.classes) - 1}."
        )
    return label


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
        self._records: list[str] | None = None

    @cached_property
    def card(self) -> DatasetCard:
        """What a reader must know; its notes say which band order is in force."""
        spec = self._spec
        order = (
            f"Band names are corrected: in the published files {spec.correction}."
            if self._order == "corrected"
            else f"Band names are AS PUBLISHED and known to be wrong: {spec.correction}."
        )
        return DatasetCard(
            name=spec.name,
            title=spec.title + (" (as-published band order)" * (self._order != "corrected")),
            origin="real",
            licence=spec.licence,
            home="https://huggingface.co/datasets/recursix/geo-bench-1.0",
            level=spec.level,
            classes=spec.classes,
            bands={"sentinel2_l2a": spec.bands(self._order)},
            height=spec.side,
            width=spec.side,
            steps=1,
            units_per_dn=1.0,
            split_rule=f"published (GEO-Bench partition {self._partition})",
            notes=(
                "Top-of-atmosphere digital numbers (L1C), with B10 (cirrus).",
                order,
                "The samples carry no dates: 1 July 2020 is assumed for every sample.",
            ),
        )

    @property
    def ids(self) -> Sequence[str]:
        """``id_N`` of every sample in the partition, by number."""
        return self._ids

    @cached_property
    def labels(self) -> npt.NDArray[np.int64]:
        """Class index per sample, ``[N]``, from the files' metadata records."""
        return np.array([int(r.partition(" ")[0]) for r in self._read_records()], dtype=np.int64)

    def digests(self, progress: Progress | None = None) -> Sequence[str]:
        """SHA-256 of each sample's pixels; reads and checks every sample that changed."""
        return [record.partition(" ")[2] for record in self._read_records(progress)]

    def _read_records(self, progress: Progress | None = None) -> list[str]:
        # Label and pixel digest come from the same pass over a file, and are remembered together.
        if self._records is None:
            self._records = digest_files(self._paths, self._record, self._cache, progress)
        return self._records

    def _record(self, path: Path) -> str:
        sample = read_sample(path, self._spec)
        return f"{sample.label} {pixel_digest(sample.image)}"

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over band names, classes, ids, labels, pixels and the published split."""
        facts = [READER, *self._spec.bands(self._order), *self._spec.classes]
        records = self._read_records()
        facts += [f"{name} {record}" for name, record in zip(self._ids, records, strict=True)]
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
        """Images ``[B, H, W, 1, D]`` float32 digital numbers."""
        side, depth = self._spec.side, len(self._spec.arrays)
        images = np.empty((len(rows), side, side, 1, depth), dtype=np.float32)
        for i, row in enumerate(rows):
            images[i, :, :, 0] = read_sample(self._paths[row], self._spec).image
        dates = np.tile(np.array(eurosat.ASSUMED_DATE, dtype=np.int64), (len(rows), 1, 1))
        return Batch({"sentinel2_l2a": images}, dates)


def _number(name: str) -> tuple[int, str]:
    tail = name.rpartition("_")[2]
    return (int(tail) if tail.isdigit() else -1, name)
