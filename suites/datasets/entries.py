"""The table of known data sets: what each is called and asks for, where it lies, what opens it.

`suites.datasets.catalogue` looks it up; a new data set is one entry here. It must know nothing of
data directories, or of what stands in for a set that is not there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from suites.datasets import (
    bark_beetle,
    breizhcrops,
    crop_series,
    cropharvest,
    eurosat,
    fuel_moisture,
    geobench,
    mados,
    pastis,
    sen1floods,
)
from suites.datasets.bark_beetle import BarkBeetle
from suites.datasets.base import KIND_WORDS, Dataset, Origin, TargetKind
from suites.datasets.breizhcrops import BreizhCrops
from suites.datasets.crop_series import CropSeries
from suites.datasets.cropharvest import CropHarvest
from suites.datasets.eurosat import EuroSat
from suites.datasets.fuel_moisture import FuelMoisture
from suites.datasets.geobench import GeoBench
from suites.datasets.geobench_specs import SPECS, Spec
from suites.datasets.mados import Mados
from suites.datasets.pastis import Pastis
from suites.datasets.sen1floods import Sen1Floods
from suites.datasets.simulated import Simulated
from suites.datasets.simulated_tasks import TASKS, Posed, SimulatedTask


@dataclass(frozen=True)
class Entry:
    """One known data set.

    ``options`` maps each option it takes to its type; ``find`` locates it under a data
    directory (``None`` for a built-in set); ``open`` builds it from that folder, the data
    directory, checked options and the cache folder; ``kind`` says what it asks for.
    """

    name: str
    title: str
    origin: Origin
    options: Mapping[str, type]
    layout: str
    find: Callable[[Path], Path | None] | None
    open: Callable[[Path, Path, dict[str, Any], Path | None], Dataset]
    kind: TargetKind = "classes"


KINDS = {"classes": "classes", "labels": "labels", "maps": "classes of pixels"}


def _geobench(spec: Spec) -> Entry:
    asked = f"{len(spec.classes)} {KINDS[spec.kind]}"
    return Entry(
        spec.name,
        f"{spec.title}: {asked}, {len(spec.arrays)} bands, {spec.side} x {spec.side}, published "
        "split",
        "real",
        {"partition": str, "band_order": str},
        f"{geobench.ARCHIVE}/{spec.part}/{spec.name}/*.hdf5",
        lambda root: geobench.find_folder(root, spec.name),
        lambda folder, _root, options, cache: GeoBench(
            folder, spec.name, cache_dir=cache, **options
        ),
        spec.kind,
    )


def _posed(name: str, posed: Posed) -> Entry:
    pixels = f"{posed.side} x {posed.side}" if posed.side > 1 else "pixels"
    asked = f"{len(posed.classes)} {KINDS[posed.kind]}" if posed.classes else KIND_WORDS[posed.kind]
    dates = f", T = {len(posed.dates)}" if len(posed.dates) > 1 else ""
    return Entry(
        name,
        f"SIMULATED {posed.title}: {asked}, 13 bands, {pixels}{dates} (built in)",
        "simulated",
        {"size": int, "seed": int},
        "built in",
        None,
        lambda _folder, _root, options, _cache: SimulatedTask(name, **options),
        posed.kind,
    )


ENTRIES: dict[str, Entry] = {
    "eurosat": Entry(
        "eurosat",
        "EuroSAT-MS: 10 land-cover classes, 13 bands, 64 x 64",
        "real",
        {"split": str},
        f"{eurosat.LAYOUTS[0]}/<Class>/<Class>_N.tif",
        eurosat.find_folder,
        lambda folder, root, options, cache: EuroSat(
            folder, lists_dir=root, cache_dir=cache, **options
        ),
    ),
    **{spec.name: _geobench(spec) for spec in SPECS.values()},
    "bark-beetle": Entry(
        "bark-beetle",
        "Bark beetle damage: segmentation, 12 bands, 64 x 64 windows, one date or two",
        "real",
        {"dates": str},
        f"{bark_beetle.FOLDER}/{{2019,2020,mask}}/ID.tif",
        bark_beetle.find_folder,
        lambda folder, _root, options, cache: BarkBeetle(folder, cache_dir=cache, **options),
        "maps",
    ),
    "breizhcrops": Entry(
        "breizhcrops",
        "BreizhCrops: 9 crops of fields in Brittany, 13 bands, T = 12, published regions",
        "real",
        {"level": str},
        f"{breizhcrops.FOLDERS[0]}/2017/L1C/frh0N.{{csv,h5}}",
        breizhcrops.find_folder,
        lambda folder, _root, options, cache: BreizhCrops(folder, cache_dir=cache, **options),
    ),
    "crop-series": Entry(
        "crop-series",
        "Canadian crops: 13 classes, Sentinel-1 and -2 pixels, T = 12",
        "real",
        {},
        str(crop_series.FILE),
        crop_series.find_folder,
        lambda folder, _root, _options, _cache: CropSeries(folder),
    ),
    "cropharvest": Entry(
        "cropharvest",
        "CropHarvest: a crop or not, Sentinel-1 and -2 pixels, T = 12, published tests",
        "real",
        {"task": str},
        f"{cropharvest.FOLDERS[0]}/features/arrays/INDEX_SOURCE.h5",
        cropharvest.find_folder,
        lambda folder, _root, options, cache: CropHarvest(folder, cache_dir=cache, **options),
    ),
    "fuel-moisture": Entry(
        "fuel-moisture",
        "Live fuel moisture: regression, Sentinel-1 and -2 pixels, T = 3, published test sites",
        "real",
        {},
        f"{fuel_moisture.FOLDER}/*.npy",
        fuel_moisture.find_folder,
        lambda folder, _root, _options, _cache: FuelMoisture(folder),
        "values",
    ),
    "pastis-r": Entry(
        "pastis-r",
        "PASTIS-R: 19 crops of pixels, Sentinel-1 and -2, T = 12, 64 x 64, published folds",
        "real",
        {},
        f"{pastis.FOLDER}/metadata.geojson",
        pastis.find_folder,
        lambda folder, _root, _options, cache: Pastis(folder, cache_dir=cache),
        "maps",
    ),
    "sen1floods11": Entry(
        "sen1floods11",
        "Sen1Floods11: water during floods for each pixel, Sentinel-1 or -2, 64 x 64 windows, "
        "published split",
        "real",
        {"sensors": str, "test": str},
        f"{sen1floods.FOLDER}/v1.1/{sen1floods.CHIPS}/{{S1Hand,S2Hand,LabelHand}}/*.tif",
        sen1floods.find_folder,
        lambda folder, _root, options, cache: Sen1Floods(folder, cache_dir=cache, **options),
        "maps",
    ),
    "mados": Entry(
        "mados",
        "MADOS: marine debris, oil spills and 13 other classes of pixels, 11 bands, 80 x 80 "
        "windows, published split",
        "real",
        {},
        f"{mados.FOLDERS[0]}/Scene_N/{{10,20,60}}/*.tif",
        mados.find_folder,
        lambda folder, _root, _options, cache: Mados(folder, cache_dir=cache),
        "maps",
    ),
    "simulated": Entry(
        "simulated",
        "SIMULATED Sentinel-2 land cover: 10 classes, 13 bands, 64 x 64 (built in)",
        "simulated",
        {"size": int, "seed": int},
        "built in",
        None,
        lambda _folder, _root, options, _cache: Simulated(**options),
    ),
    **{name: _posed(name, posed) for name, posed in TASKS.items()},
}
