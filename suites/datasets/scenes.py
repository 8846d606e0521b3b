"""What each simulated land-cover class looks like: which materials lie where.

One small function per class turns a random generator into abundance maps. Classes
overlap on purpose: highways and rivers cross the landscapes of other classes, crops of
two kinds share soils and greenness, and season and mixture vary from tile to tile. It
must know nothing of sensors, atmospheres or files.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from suites.datasets.patterns import (
    F32,
    I64,
    Rng,
    blocks,
    covered,
    grain,
    number,
    parcels,
    ribbon,
    ribbon_distance,
    rows,
    smooth,
    table,
)

Cover = dict[str, F32]
"""Material name -> share of each pixel ``[SCENE, SCENE]``; the shares sum to one."""


def annual_crop(rng: Rng) -> Cover:
    """Large parcels, each at its own stage between bare soil and closed canopy."""
    field = parcels(rng, number(rng, 6, 26), number(rng, 12, 50))
    return _cropland(rng, field, season=number(rng, -0.1, 0.8), contrast=number(rng, 1.2, 2.2))


def permanent_crop(rng: Rng) -> Cover:
    """Orchards and vineyards: small plots whose planting rows show as fine stripes.

    Plots of annual crops lie among them, as they do in the real tiles.
    """
    field = parcels(rng, number(rng, 5, 20), number(rng, 7, 34))
    stripes, other = rows(rng, number(rng, 2.2, 5.0)), rows(rng, number(rng, 2.2, 5.0))
    stripes = np.where(table(rng, field) < 0.5, stripes, other)
    planted = _unit(number(rng, 0.3, 1.0) + number(rng, 0.3, 1.2) * (table(rng, field) - 0.5))
    canopy = _unit(planted * (number(rng, 0.1, 0.4) + number(rng, 0.15, 0.75) * stripes))
    bright = _unit(number(rng, 0.2, 1.0) + number(rng, 0.2, 1.2) * (table(rng, field) - 0.5))
    dry = number(rng, 0.0, 0.5) * (1 - canopy)
    soil = 1 - canopy - dry
    leaf = number(rng, 0.0, 0.8)
    plots = {
        "green_crop": canopy * np.float32(leaf),
        "shrub": canopy * np.float32(1 - leaf),
        "dry_grass": dry,
        "bright_soil": soil * bright,
        "dark_soil": soil * (1 - bright),
    }
    among = _cropland(rng, field, season=number(rng, 0.0, 0.5), contrast=number(rng, 0.5, 1.5))
    return _beside(plots, among, table(rng, field) < number(rng, 0.0, 0.9))


def pasture(rng: Rng) -> Cover:
    """Green paddocks, some mown or grazed short, with hedges and single trees."""
    field = parcels(rng, number(rng, 9, 34), number(rng, 12, 50))
    even = number(rng, 0.6, 2.0)
    lush = _unit(number(rng, 0.3, 1.0) + even * (table(rng, field) - 0.5) + 0.1 * smooth(rng, 5))
    worn = number(rng, 0.2, 1.2) * (table(rng, field) - number(rng, 0.3, 1.0))
    dry = _unit(worn + 0.15 * smooth(rng, 4)) * (1 - lush * 0.5)
    hedge = ribbon(rng, number(rng, 0.3, 1.6), number(rng, -0.3, 0.3)) * _keep(rng, 0.6)
    trees = np.maximum(hedge, _unit(0.5 * (smooth(rng, 12) - number(rng, 0.8, 3.0))))
    open_land = 1 - trees
    green = (1 - dry) * open_land
    return {
        "green_crop": green * lush,
        "grass": green * (1 - lush),
        "dry_grass": dry * open_land,
        "broadleaf": trees,
    }


def herbaceous(rng: Rng) -> Cover:
    """Rough natural vegetation: irregular patches of grass, shrub and bare ground.

    Old fields lie among it and keep their edges.
    """
    shrub = _unit(number(rng, 0.0, 0.6) + 0.3 * smooth(rng, 5) + 0.2 * smooth(rng, 13))
    dry = _unit(number(rng, 0.0, 1.0) + 0.3 * smooth(rng, 4) + 0.15 * smooth(rng, 11)) * (1 - shrub)
    bare = _unit(number(rng, -0.25, 0.5) + 0.25 * smooth(rng, 9)) * (1 - shrub - dry)
    bright = number(rng, 0.2, 1.0)
    rough = {
        "shrub": shrub,
        "dry_grass": dry,
        "bright_soil": bare * np.float32(bright),
        "dark_soil": bare * np.float32(1 - bright),
        "grass": 1 - shrub - dry - bare,
    }
    field = parcels(rng, number(rng, 9, 30), number(rng, 12, 40))
    among = (pasture, permanent_crop)[int(rng.integers(2))](rng)
    return _beside(rough, among, table(rng, field) < number(rng, -0.3, 0.5))


def forest(rng: Rng) -> Cover:
    """A closed canopy: stands of conifers and broadleaves with crown texture and few gaps."""
    stands = number(rng, 0.05, 0.6)
    broad = _unit(number(rng, -0.3, 1.1) + stands * smooth(rng, 4) + 0.12 * smooth(rng, 14))
    gap = _unit(0.4 * (smooth(rng, 6) - number(rng, 0.6, 3.2)))
    crown = _unit(0.9 + 0.12 * grain(rng)) * (1 - gap)
    return {
        "broadleaf": crown * broad,
        "conifer": crown * (1 - broad),
        "shrub": 1 - crown - gap,
        "grass": gap,
    }


def residential(rng: Rng) -> Cover:
    """Blocks of small houses between streets, often with open country at the edge."""
    return _outskirts(rng, _streets(rng), reach=number(rng, -2.6, 0.0))


def industrial(rng: Rng) -> Cover:
    """Large flat roofs and yards, often with open country at the edge."""
    return _outskirts(rng, _works(rng), reach=number(rng, -2.6, 0.1))


def _streets(rng: Rng) -> Cover:
    block, _ = blocks(rng, number(rng, 6, 13), number(rng, 0.8, 1.6))
    house, number_of = blocks(rng, number(rng, 2.2, 3.6), number(rng, 0.8, 1.5))
    built = table(rng, number_of) < number(rng, 0.5, 0.95)
    roof = house * block * built * number(rng, 0.65, 1.0)
    street = (1 - block) * number(rng, 0.5, 0.95)
    garden = 1 - roof - street
    trees = _unit(number(rng, 0.1, 0.7) + 0.3 * smooth(rng, 16)) * garden
    dry = number(rng, 0.0, 0.8)
    tiled = number(rng, 0.1, 0.9)
    return {
        "tile_roof": roof * np.float32(tiled),
        "concrete": roof * np.float32(1 - tiled),
        "asphalt": street,
        "broadleaf": trees,
        "grass": (garden - trees) * np.float32(1 - dry),
        "dry_grass": (garden - trees) * np.float32(dry),
    }


def _works(rng: Rng) -> Cover:
    roof, number_of = blocks(rng, number(rng, 7, 20), number(rng, 1.5, 4.5))
    roof = roof * (table(rng, number_of) < number(rng, 0.55, 0.95))
    kind = table(rng, number_of)
    bright = number(rng, 0.0, 0.4)
    metal = roof * (kind < bright)
    dark = roof * (kind > 0.75)
    green = _unit(number(rng, 0.0, 0.8) + 0.35 * smooth(rng, 7)) * (1 - roof)
    yard = 1 - roof - green
    soil = number(rng, 0.0, 0.5)
    return {
        "metal_roof": metal * np.float32(0.8),
        "concrete": roof - metal - dark + metal * np.float32(0.2),
        "asphalt": dark + yard * np.float32(1 - soil),
        "dark_soil": yard * np.float32(soil),
        "grass": green,
    }


def sea_lake(rng: Rng) -> Cover:
    """Open water with slow gradients of sediment."""
    base = number(rng, -0.4, 0.7)
    turbid = _unit(base + number(rng, 0.0, 0.1) * smooth(rng, 2))
    return {"turbid_water": turbid, "clear_water": 1 - turbid}


def highway(rng: Rng) -> Cover:
    """A road of two carriageways, with verges, through some other landscape."""
    land = _background(rng)
    width, bend = number(rng, 1.8, 4.8), number(rng, -0.5, 0.5)
    road = ribbon(rng, width, bend)
    if rng.random() < 0.4:
        road = np.maximum(road, ribbon(rng, number(rng, 1.0, 2.5), number(rng, -1.2, 1.2)))
    road = road * np.float32(number(rng, 0.7, 1.0))
    pale = number(rng, 0.1, 0.8)
    lanes = {"asphalt": road * np.float32(1 - pale), "concrete": road * np.float32(pale)}
    return over(land, lanes, road)


def river(rng: Rng) -> Cover:
    """A meandering river of varying width, with wooded banks, through some other landscape."""
    land = _background(rng)
    width, bend, wander = number(rng, 3, 17), number(rng, -0.8, 0.8), number(rng, 1, 7)
    course = ribbon_distance(rng, bend, wander=wander)
    water = covered(course, width)
    banks = covered(course, width + number(rng, 1, 5))
    wooded = banks * (1 - water) * np.float32(number(rng, 0.2, 0.9))
    land = over(land, {"broadleaf": wooded}, wooded)
    turbid = number(rng, 0.0, 1.0)
    flow = {
        "turbid_water": water * np.float32(turbid),
        "clear_water": water * np.float32(1 - turbid),
    }
    return over(land, flow, water)


CLASS_SCENES: dict[str, Callable[[Rng], Cover]] = {
    "AnnualCrop": annual_crop,
    "Forest": forest,
    "HerbaceousVegetation": herbaceous,
    "Highway": highway,
    "Industrial": industrial,
    "Pasture": pasture,
    "PermanentCrop": permanent_crop,
    "Residential": residential,
    "River": river,
    "SeaLake": sea_lake,
}

_BACKGROUNDS = (annual_crop, annual_crop, pasture, herbaceous, permanent_crop, forest, residential)
_COUNTRY = (annual_crop, pasture, herbaceous, forest)


def _background(rng: Rng) -> Cover:
    return _BACKGROUNDS[int(rng.integers(len(_BACKGROUNDS)))](rng)


def _cropland(rng: Rng, field: I64, *, season: float, contrast: float) -> Cover:
    """Parcels between bare soil and closed canopy; ``contrast`` sets how unlike they are."""
    spread = np.float32(contrast)
    green = _unit(season + spread * (table(rng, field) - 0.5) + 0.06 * smooth(rng, 8))
    soils = number(rng, 0.0, 1.1)
    bright = _unit(soils + 0.8 * spread * (table(rng, field) - 0.5) + 0.1 * smooth(rng, 6))
    straw = number(rng, -0.5, 0.6)
    stubble = _unit(straw + 0.9 * spread * (table(rng, field) - 0.5)) * (1 - green)
    soil = 1 - green - stubble
    return {
        "green_crop": green,
        "dry_grass": stubble,
        "bright_soil": soil * bright,
        "dark_soil": soil * (1 - bright),
    }


def _outskirts(rng: Rng, town: Cover, *, reach: float) -> Cover:
    """Open country beside a built-up area; ``reach`` is how far it comes in (from -2 up)."""
    country = _COUNTRY[int(rng.integers(len(_COUNTRY)))](rng)
    return _beside(town, country, _unit((smooth(rng, 2) + np.float32(reach)) * 4))


def _beside(one: Cover, other: Cover, share: F32 | npt.NDArray[np.bool_]) -> Cover:
    """Two landscapes in one tile: ``share`` of each pixel belongs to the other."""
    part = np.asarray(share, dtype=np.float32)
    return over(one, {name: cover * part for name, cover in other.items()}, part)


def over(below: Cover, above: Cover, cover: F32) -> Cover:
    """Lay materials covering a share of each pixel over a landscape."""
    merged = {name: share * (1 - cover) for name, share in below.items()}
    for name, share in above.items():
        merged[name] = merged[name] + share if name in merged else share
    return merged


def _unit(values: F32 | np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> F32:
    return np.clip(np.asarray(values, dtype=np.float32), 0, 1)


def _keep(rng: Rng, chance: float) -> np.float32:
    return np.float32(rng.random() < chance)
