"""EuroSAT-MS: 64 x 64 Sentinel-2 L1C tiles of ten land-cover classes, in class folders.

The one trap of this data set is handled here and nowhere else: its GeoTIFFs store B8A
*last* (B01...B08 B09 B10 B11 B12 B8A). Source: P. Helber et al., EuroSAT (2019), and
the split of M. Neumann et al. (2019) as distributed with the archive. Knows nothing of
how a model orders or normalises bands.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tifffile

from models.errors import UserError
from suites.datasets.base import SPLITS, Batch, DatasetCard
from suites.datasets.digests import DigestCache, Progress, digest_files, fingerprint, pixel_digest
from suites.datasets.splits import split_rule, stratified_split

CLASSES = (
    "AnnualCrop",
    "Forest",
    "HerbaceousVegetation",
    "Highway",
    "Industrial",
    "Pasture",
    "PermanentCrop",
    "Residential",
    "River",
    "SeaLake",
)
BANDS = (
    "B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B09", "B10", "B11", "B12", "B8A",
)  # fmt: skip
SIDE = 64
LAYOUTS = (
    "eurosat_ms",
    "EuroSAT_MS",
    "ds/images/remote_sensing/otherDatasets/sentinel_2/tif",
    "eurosat/ds/images/remote_sensing/otherDatasets/sentinel_2/tif",
)
logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # we say it in our own sentences

ASSUMED_DATE = (1, 6, 2020)  # day, month (0-based), year
LISTS = {
    "published": {name: f"eurosat-{name}.txt" for name in SPLITS},
    "spatial": {name: f"eurosat-spatial-{name}.txt" for name in SPLITS},
}
"""Lists of tiles: the published ones, and those by longitude (torchgeo's `EuroSATSpatial`)."""

READER = "eurosat-1"

NOTES = (
    "Top-of-atmosphere digital numbers (L1C), with B10 (cirrus).",
    "B8A is stored last; bands are selected by name.",
    "The tiles carry no dates: 1 July 2020 is assumed for every sample.",
)


def find_folder(data_dir: Path) -> Path | None:
    """Where the class folders lie under a data directory, or ``None``."""
    for layout in LAYOUTS:
        if (data_dir / layout).is_dir():
            return data_dir / layout
    return data_dir if (data_dir / CLASSES[0]).is_dir() else None


def read_tile(path: Path) -> npt.NDArray[np.uint16]:
    """One tile as ``[64, 64, 13]`` digital numbers in stored band order (`BANDS`).

    Raises `UserError` naming the file when it is truncated, not a TIFF, of another
    size, band count or type, or constant.
    """
    try:
        with tifffile.TiffFile(path) as tiff:
            # One page's asarray: the series machinery of imread() costs more than the decoding.
            image = np.asarray(tiff.pages[0].asarray())
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from None
    except Exception as error:  # zlib, struct and tifffile's own: all mean a broken file
        raise UserError(
            f"{path} is not a readable TIFF ({error}): it is damaged or truncated; "
            "fetch it again or remove it."
        ) from None
    return _checked(image, path)


def _checked(image: npt.NDArray[np.generic], path: Path) -> npt.NDArray[np.uint16]:
    expected = (SIDE, SIDE, len(BANDS))
    if image.shape != expected:
        raise UserError(
            f"{path} has shape {image.shape}, but a EuroSAT-MS tile has {expected} "
            "(rows, columns, bands); remove it, or fetch the multispectral archive instead of RGB."
        )
    if image.dtype != np.uint16:
        raise UserError(
            f"{path} holds {image.dtype} values, but EuroSAT-MS tiles are uint16 digital numbers; "
            "remove it or fetch it again."
        )
    tile = image.astype(np.uint16, copy=False)
    if np.array_equal(tile.max(axis=(0, 1)), tile.min(axis=(0, 1))):
        raise UserError(
            f"{path} is constant (every pixel is the same): it holds no image; remove it."
        )
    return tile


class EuroSat:
    """EuroSAT-MS read from class folders. Implements `suites.datasets.base.Dataset`.

    ``split`` chooses ``"seeded"`` (made here), ``"published"`` (the three
    ``eurosat-{train,val,test}.txt`` lists, beside the tiles or in ``lists_dir``), ``"spatial"``
    (the three ``eurosat-spatial-...`` lists: parts are apart in longitude) or ``"auto"``:
    published where all three lists are there, seeded otherwise. The card says which it is.
    Raises `UserError` for unknown, missing or empty class folders, and for lists that are not all
    there, damaged, or name a tile twice.
    """

    def __init__(
        self,
        folder: Path,
        *,
        split: str = "auto",
        lists_dir: Path | None = None,
        cache_dir: Path | None = None,
    ) -> None:
        if split not in ("auto", "seeded", *LISTS):
            raise UserError(f'Unknown split "{split}". Allowed: auto, published, spatial, seeded.')
        self._folder = folder
        self._paths, self._labels = _list_tiles(folder)
        self._cache = DigestCache.of(cache_dir, folder, READER)
        self._digests: list[str] | None = None
        self._kind = "spatial" if split == "spatial" else "published"
        places = [folder, *([lists_dir, lists_dir / "eurosat"] if lists_dir else [])]
        lists = _split_lists(places, LISTS[self._kind]) if split != "seeded" else None
        if split in LISTS and lists is None:
            raise UserError(
                f"The {split} split of eurosat needs {', '.join(LISTS[split].values())} "
                f'beside the tiles in {folder}; run "tokenrank data get eurosat" '
                "or set split: seeded."
            )
        self._lists = lists

    @cached_property
    def card(self) -> DatasetCard:
        """What a reader must know of these tiles."""
        count = len(self._paths)
        part = "" if count == 27_000 else f" ({count:,} of the 27,000 tiles)"
        return DatasetCard(
            name="eurosat",
            title=f"EuroSAT-MS{part}",
            origin="real",
            licence="MIT",
            home="https://github.com/phelber/EuroSAT",
            level="L1C",
            classes=CLASSES,
            bands={"sentinel2_l2a": BANDS},
            height=SIDE,
            width=SIDE,
            steps=1,
            units_per_dn=1.0,
            split_rule=_RULES[self._kind] if self._lists else split_rule(),
            notes=NOTES,
        )

    @cached_property
    def ids(self) -> Sequence[str]:
        """``Class/Class_N``, by class and number."""
        return tuple(f"{path.parent.name}/{path.stem}" for path in self._paths)

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """Class index per tile, ``[N]``."""
        return self._labels

    def digests(self, progress: Progress | None = None) -> Sequence[str]:
        """SHA-256 of each tile's pixels; reads and checks every tile that changed."""
        if self._digests is None:
            self._digests = digest_files(
                self._paths, lambda path: pixel_digest(read_tile(path)), self._cache, progress
            )
        return self._digests

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over band names, classes, ids, labels and pixels."""
        samples = zip(self.ids, self.labels, self.digests(), strict=True)
        return fingerprint(
            [READER, *BANDS, *CLASSES, *(f"{name} {label} {d}" for name, label, d in samples)]
        )

    def splits(self, seed: int) -> Mapping[str, npt.NDArray[np.int64]]:
        """Published lists where chosen, else a seeded stratified split of distinct tiles."""
        if self._lists is None:
            return stratified_split(self.labels, seed, groups=self.digests())
        row = {path.stem: i for i, path in enumerate(self._paths)}
        split = {
            name: np.array(sorted(row[s] for s in stems if s in row), dtype=np.int64)
            for name, stems in self._lists.items()
        }
        for name, rows in split.items():
            if not len(rows):
                raise UserError(
                    f"None of the tiles in {self._folder} stands in {LISTS[self._kind][name]}; "
                    'set split: seeded, or run "tokenrank data get eurosat" for all tiles.'
                )
        return split

    def read(self, rows: Sequence[int]) -> Batch:
        """Images ``[B, 64, 64, 1, 13]`` float32 digital numbers."""
        images = np.empty((len(rows), SIDE, SIDE, 1, len(BANDS)), dtype=np.float32)
        for i, row in enumerate(rows):
            images[i, :, :, 0] = read_tile(self._paths[row])
        dates = np.tile(np.array(ASSUMED_DATE, dtype=np.int64), (len(rows), 1, 1))
        return Batch({"sentinel2_l2a": images}, dates)


def _list_tiles(folder: Path) -> tuple[list[Path], npt.NDArray[np.int64]]:
    try:
        found = sorted(p.name for p in folder.iterdir() if p.is_dir() and p.name[0] not in "._")
    except OSError as error:
        raise UserError(f"{folder} cannot be listed: {error.strerror or error}.") from None
    unknown = [name for name in found if name not in CLASSES]
    if unknown:
        raise UserError(
            f"{folder} holds a folder that is no EuroSAT class: {', '.join(unknown)}. "
            f"Allowed: {', '.join(CLASSES)}"
        )
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(CLASSES):
        tiles = sorted((folder / name).glob("*.tif"), key=_number) if name in found else []
        if not tiles:
            raise UserError(
                f"{folder / name} is missing or holds no .tif tile; all ten EuroSAT classes are "
                'needed: run "tokenrank data get eurosat" or restore the folder.'
            )
        paths.extend(tiles)
        labels.extend([label] * len(tiles))
    return paths, np.array(labels, dtype=np.int64)


def _number(path: Path) -> tuple[int, str]:
    tail = path.stem.rpartition("_")[2]
    return (int(tail) if tail.isdigit() else -1, path.name)


_RULES = {
    "published": "published (Neumann et al. 2019)",
    "spatial": "published, by longitude: 60% train / 20% val / 20% test (torchgeo)",
}


def _split_lists(places: Sequence[Path], names: Mapping[str, str]) -> dict[str, list[str]] | None:
    """File stems per split from the first place that has lists; None where none has any.

    Raises `UserError` where some of the three are missing, and for a tile that stands in two.
    """
    for place in places:
        files = {name: place / file for name, file in names.items()}
        missing = [file for file in files.values() if not file.is_file()]
        if len(missing) == len(files):
            continue
        if missing:
            raise UserError(
                f"{missing[0]} is missing, but other lists of its split are there; run "
                '"tokenrank data get eurosat", or set split: seeded.'
            )
        found = {name: _listed(file) for name, file in files.items()}
        place_of: dict[str, Path] = {}
        for name, stems in found.items():
            for stem in stems:
                if stem in place_of:
                    raise UserError(
                        f"{files[name]} lists {stem}, which {place_of[stem].name} lists already, "
                        'so that splits overlap; run "tokenrank data get eurosat" again.'
                    )
                place_of[stem] = files[name]
        return found
    return None


def _listed(file: Path) -> list[str]:
    try:
        return [Path(line).stem for line in file.read_text(encoding="utf-8").split()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} is not a readable list ({error}); fetch it again.") from None
