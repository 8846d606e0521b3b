"""The facts of GEO-Bench v1's data sets: arrays, true bands, classes, units.

A table, and nothing that reads. Sources: A. Lacoste et al., GEO-Bench (2023), and the converters in
its repository, which name arrays and classes; where a name is wrong, what the array truly holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from models.errors import UserError, did_you_mean
from suites.datasets import eurosat
from suites.datasets.base import TargetKind

BandOrder = Literal["corrected", "as-published"]
BAND_ORDERS: tuple[BandOrder, ...] = ("corrected", "as-published")


@dataclass(frozen=True)
class Spec:
    """The facts of one data set.

    ``arrays``: HDF5 array names in the order we deliver them (in a file, a date may follow:
    ``02 - Blue_2019-11-30``). ``published`` and ``corrected``: the band each of them is named
    after, and the band it truly holds; ``correction`` says how they differ, empty if they do not.
    ``part``: folder of the archive that it lies in.
    """

    name: str
    title: str
    licence: str
    level: str
    kind: TargetKind
    classes: tuple[str, ...]
    arrays: tuple[str, ...]
    published: tuple[str, ...]
    corrected: tuple[str, ...]
    side: int
    correction: str = ""
    modality: str = "sentinel2_l2a"
    units_per_dn: float = 1.0
    notes: tuple[str, ...] = ()
    archive: str = ""

    @property
    def folder(self) -> str:
        """Name of its archive and folder, where that is spelt another way."""
        return self.archive or self.name

    @property
    def part(self) -> str:
        """Folder of the archive that it lies in."""
        return "segmentation_v1.0" if self.kind == "maps" else "classification_v1.0"

    def bands(self, order: BandOrder) -> tuple[str, ...]:
        """Band names on the last axis under a band order."""
        return self.corrected if order == "corrected" else self.published


def spec_of(name: str) -> Spec:
    """The facts of a data set; a `UserError` names the known ones."""
    try:
        return SPECS[name]
    except KeyError:
        raise UserError(
            f'Unknown GEO-Bench data set "{name}": {did_you_mean(name, SPECS)}.'
        ) from None


_ARRAYS = {
    "B01": "01 - Coastal aerosol", "B02": "02 - Blue", "B03": "03 - Green", "B04": "04 - Red",
    "B05": "05 - Vegetation Red Edge", "B06": "06 - Vegetation Red Edge",
    "B07": "07 - Vegetation Red Edge", "B08": "08 - NIR", "B8A": "08A - Vegetation Red Edge",
    "B09": "09 - Water vapour", "B10": "10 - SWIR - Cirrus", "B11": "11 - SWIR", "B12": "12 - SWIR",
}  # fmt: skip
_LANDSAT = {
    "B2": "02 - Blue", "B3": "03 - Green", "B4": "04 - Red", "B5": "05 - NIR", "B6": "06 - SWIR1",
    "B7": "07 - SWIR2",
}  # fmt: skip
_ALL = tuple(_ARRAYS)
_L2A = tuple(band for band in _ALL if band != "B10")


def _arrays(bands: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(_ARRAYS[band] for band in bands)


_CORINE = (
    "Continuous urban fabric", "Discontinuous urban fabric", "Industrial or commercial units",
    "Road and rail networks and associated land", "Port areas", "Airports",
    "Mineral extraction sites", "Dump sites", "Construction sites", "Green urban areas",
    "Sport and leisure facilities", "Non-irrigated arable land", "Permanently irrigated land",
    "Rice fields", "Vineyards", "Fruit trees and berry plantations", "Olive groves", "Pastures",
    "Annual crops associated with permanent crops", "Complex cultivation patterns",
    "Land principally occupied by agriculture, with significant areas of natural vegetation",
    "Agro-forestry areas", "Broad-leaved forest", "Coniferous forest", "Mixed forest",
    "Natural grassland", "Moors and heathland", "Sclerophyllous vegetation",
    "Transitional woodland/shrub", "Beaches, dunes, sands", "Bare rock",
    "Sparsely vegetated areas", "Burnt areas", "Inland marshes", "Peatbogs", "Salt marshes",
    "Salines", "Intertidal flats", "Water courses", "Water bodies", "Coastal lagoons", "Estuaries",
    "Sea and ocean",
)  # fmt: skip
_CLIMATE_ZONES = (
    "Compact high rise", "Compact mid rise", "Compact low rise", "Open high rise", "Open mid rise",
    "Open low rise", "Lightweight low rise", "Large low rise", "Sparsely built", "Heavy industry",
    "Dense trees", "Scattered trees", "Bush, scrub", "Low plants", "Bare rock or paved",
    "Bare soil or sand", "Water",
)  # fmt: skip
_SO2SAT = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
_BRICKS = ("B01", "B02", "B03", "B04", "B05", "B07", "B8A", "B08", "B11", "B12")
_GEO_BENCH = "see GEO-Bench"

SPECS: dict[str, Spec] = {
    spec.name: spec
    for spec in (
        Spec(
            name="m-eurosat",
            title="GEO-Bench v1 m-eurosat",
            licence="CC BY-SA 4.0 (GEO-Bench), MIT (EuroSAT)",
            level="L1C",
            kind="classes",
            # The labels follow EuroSAT's alphabetical folders (sample id_1905, label 1, is forest);
            # the name list in the published task_specs.pkl is in another order and is not used.
            classes=eurosat.CLASSES,
            arrays=_arrays(_ALL),
            published=_ALL,
            corrected=eurosat.BANDS,
            side=64,
            correction="the arrays named 08A, 09, 10, 11, 12 hold B09, B10, B11, B12, B8A",
            notes=("Top-of-atmosphere digital numbers (L1C), with B10 (cirrus).",),
        ),
        Spec(
            name="m-bigearthnet",
            title="GEO-Bench v1 m-bigearthnet",
            licence=_GEO_BENCH,
            level="L2A",
            kind="labels",
            classes=_CORINE,
            arrays=_arrays(_L2A),
            published=_L2A,
            corrected=_L2A,
            side=120,
            notes=("All bands were brought to 10 m bilinearly by the publisher.",),
        ),
        Spec(
            name="m-so2sat",
            title="GEO-Bench v1 m-so2sat",
            licence=_GEO_BENCH,
            level="L1C",
            kind="classes",
            classes=_CLIMATE_ZONES,
            arrays=_arrays(_SO2SAT),
            published=_SO2SAT,
            corrected=_SO2SAT,
            side=32,
            units_per_dn=10_000.0,
            notes=(
                "Stored as reflectance from 0 to 2.8; without B01 and B09.",
                "Its radar arrays are complex amplitudes and are not read.",
            ),
        ),
        Spec(
            name="m-brick-kiln",
            title="GEO-Bench v1 m-brick-kiln",
            licence=_GEO_BENCH,
            level="L2A",
            kind="classes",
            classes=("not brick kiln", "brick kiln"),
            # Thirteen layers were given the thirteen names; the last three are a true-colour image.
            arrays=_arrays(_ALL[:10]),
            published=_ALL[:10],
            corrected=_BRICKS,
            side=64,
            correction=(
                "the arrays named 06, 07, 08A, 09 hold B07, B8A, B11, B12, and those named 10 to "
                "12 a true-colour image"
            ),
        ),
        Spec(
            name="m-forestnet",
            title="GEO-Bench v1 m-forestnet",
            licence=_GEO_BENCH,
            level="L1",
            kind="classes",
            classes=(
                "Oil palm plantation", "Timber plantation", "Other large-scale plantations",
                "Grassland shrubland", "Small-scale agriculture", "Small-scale mixed plantation",
                "Small-scale oil palm plantation", "Mining", "Fish pond", "Logging",
                "Secondary forest", "Other",
            ),
            arrays=tuple(_LANDSAT.values()),
            published=tuple(_LANDSAT),
            corrected=tuple(_LANDSAT),
            side=332,
            modality="landsat",
            notes=("Landsat 8 at 15 m a pixel, in 8 bits; what 255 means is not documented.",),
        ),
        Spec(
            name="m-cashew-plant",
            title="GEO-Bench v1 m-cashew-plant",
            licence=_GEO_BENCH,
            level="L2A",
            kind="maps",
            classes=(
                "no data", "well-managed plantation", "poorly-managed plantation",
                "non-plantation", "residential", "background", "uncertain",
            ),
            arrays=_arrays(_L2A),
            published=_L2A,
            corrected=_L2A,
            side=256,
            notes=("The class 'no data' is one of the seven, as in published evaluations.",),
        ),
        Spec(
            name="m-sa-crop-type",
            archive="m-SA-crop-type",
            title="GEO-Bench v1 m-sa-crop-type",
            licence=_GEO_BENCH,
            level="L2A",
            kind="maps",
            classes=(
                "No Data", "Lucerne/Medics", "Planted pastures (perennial)", "Fallow",
                "Wine grapes", "Weeds", "Small grain grazing", "Wheat", "Canola", "Rooibos",
            ),
            arrays=_arrays(_L2A),
            published=_L2A,
            corrected=_L2A,
            side=256,
            notes=("The class 'No Data' is one of the ten, as in published evaluations.",),
        ),
    )
}  # fmt: skip
