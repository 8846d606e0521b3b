"""rslearn data sets: what is stored is what is delivered, and every mistake is named."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import yaml
from rich.console import Console
from typer.testing import CliRunner

from harness.cli import app
from harness.commands.measure import RunOptions, measure
from models.errors import UserError
from suites.datasets import catalogue
from suites.datasets.arrays import read_tiff
from suites.datasets.rslearn import Rslearn
from tests import rslearn_miniature as mini
from tests.rslearn_miniature import BAND_SETS, COUNT, SIDE, STEPS, window_folder


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("rslearn") / "mangrove"
    mini.write_dataset(root)
    return root


@pytest.fixture
def root(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "mangrove"))


SAID: dict[str, Any] = {
    "name": "mangroves",
    "rslearn": "mangrove",
    "layers": {"sentinel2_l2a": "sentinel2", "sentinel1": "sentinel1"},
    "label": {"layer": "label", "property": "class"},
}
MAPS: dict[str, Any] = {"kind": "maps", "label": {"layer": "cover", "band": "cover"}}


def task(root: Path, **settings: Any) -> Rslearn:
    file = root.parent / "task.yaml"
    file.write_text(yaml.safe_dump({**SAID, **settings}))
    found = catalogue.resolve(str(file), None, cache_dir=root.parent / "cache")
    assert isinstance(found, Rslearn)
    return found


def rewrite(path: Path, change: Callable[[Any], None]) -> None:
    said = json.loads(path.read_text())
    change(said)
    path.write_text(json.dumps(said))


def test_bands_of_all_resolutions_lie_on_one_grid_at_their_place(root: Path) -> None:
    data = task(root)
    assert data.ids[0] == "north/w00"
    assert (data.card.height, data.card.width, data.card.steps) == (SIDE, SIDE, STEPS)
    number = 7
    batch = data.read([number, 0])
    for bands, zoom in BAND_SETS.items():
        pixel = 2**-zoom
        for step in range(STEPS):
            stored = mini.pixels(number, step, bands)
            # The ground that each pixel's middle lies on, from the corner that the file records.
            place = [
                [math.floor((start + i + 0.5) / pixel) - start // pixel for i in range(SIDE)]
                for start in (mini.TOP, mini.LEFT)
            ]
            rows, columns = (np.minimum(each, len(stored) - 1) for each in place)
            for i, band in enumerate(bands.split()):
                d = data.card.bands["sentinel2_l2a"].index(band)
                np.testing.assert_array_equal(
                    batch.images["sentinel2_l2a"][0, :, :, step, d], stored[rows][:, columns, i]
                )
    assert data.card.bands["sentinel1"] == ("VV", "VH")
    np.testing.assert_array_equal(batch.images["sentinel1"][1, :, :, 2], mini.pixels(0, 2, "vv vh"))
    assert batch.timestamps[0].tolist() == [[15, 4, 2020], [15, 5, 2020], [15, 6, 2020]]


def test_item_groups_in_one_file_are_the_same_as_one_file_each(root: Path) -> None:
    apart = task(root, layers={"sentinel2_l2a": "sentinel2"})
    images, dates = apart.read(range(COUNT)).images, apart.read(range(COUNT)).timestamps
    rewrite(
        root / "config.json",
        lambda said: said.update(
            window_data_storage={"class_path": "rslearn.dataset.x.PerLayerStorageFactory"}
        ),
    )
    for number in range(COUNT):
        layers = window_folder(root, number) / "layers"
        for bands, zoom in BAND_SETS.items():
            folder, pixel = layers / "sentinel2" / bands.replace(" ", "_"), 2**-zoom
            # [C, T, H, W] is flattened to bands: time changes fastest.
            steps = np.stack([mini.pixels(number, step, bands) for step in range(STEPS)], axis=3)
            flat = steps.reshape(*steps.shape[:2], -1)
            corner = (mini.LEFT // pixel, mini.TOP // pixel)
            mini.write_raster(folder / "geotiff.tif", flat, corner, 10 * pixel)
            said = {"num_channels": steps.shape[2], "num_timesteps": STEPS, "timestamps": None}
            (folder / "metadata.json").write_text(json.dumps(said))
            (folder / "window_storage_meta.json").write_text('{"group_timestep_counts": [1, 1, 1]}')
        for step in (1, 2):
            for file in (layers / f"sentinel2.{step}").glob("*/geotiff.tif"):
                file.unlink()
    packed = task(root, layers={"sentinel2_l2a": "sentinel2"})
    batch = packed.read(range(COUNT))
    np.testing.assert_array_equal(batch.images["sentinel2_l2a"], images["sentinel2_l2a"])
    np.testing.assert_array_equal(batch.timestamps, dates)
    two = task(root, layers={"sentinel2_l2a": ["sentinel2", "sentinel2.2"]}).read([3])
    np.testing.assert_array_equal(
        two.images["sentinel2_l2a"][0], images["sentinel2_l2a"][3][:, :, [0, 2]]
    )


def test_labels_of_every_kind(root: Path) -> None:
    data = task(root)
    assert data.card.classes == ("forest", "water")
    assert data.labels.tolist() == [n % 2 for n in range(COUNT)]
    numbers = task(root, kind="values", label={"layer": "label", "property": "tons"}, unit="t/ha")
    np.testing.assert_array_equal(numbers.labels, np.arange(COUNT) / 2)
    several = task(root, kind="labels", label={"layer": "label", "property": "seen"})
    assert several.labels.tolist() == [[int(n % 3 > 0), int(n % 3 > 1)] for n in range(COUNT)]
    for number in range(COUNT):
        flags = {"wet": number % 2, "steep": number % 3 == 0}
        rewrite(
            window_folder(root, number) / "metadata.json", lambda s, f=flags: s["options"].update(f)
        )
    flagged = task(root, kind="labels", label={"option": ["wet", "steep"]})
    assert flagged.card.classes == ("wet", "steep")
    assert flagged.labels.tolist() == [[n % 2, int(n % 3 == 0)] for n in range(COUNT)]
    with pytest.raises(UserError, match='its label "farm" is 2; labels are 0 or 1'):
        task(root, kind="labels", label={"option": ["wet", "farm"]})
    farms = task(root, label={"option": "farm"})
    assert (farms.card.classes, farms.labels[5]) == (("0", "1", "2", "3"), 1)
    maps = task(root, **MAPS)
    assert maps.card.classes == mini.CLASSES
    masks = np.stack([mini.cover(n)[..., 0] for n in range(COUNT)])
    np.testing.assert_array_equal(maps.labels, masks)
    left_out = task(root, **MAPS, ignore=0)
    np.testing.assert_array_equal(left_out.labels, np.where(masks == 0, -1, 1))
    heights = task(root, **{**MAPS, "kind": "value_maps"}, ignore=0).labels
    np.testing.assert_array_equal(heights, np.where(masks == 0, np.nan, 1))
    assert len({each.fingerprint for each in (data, farms, maps, left_out)}) == 4


def test_splits_by_option_group_location_and_seed(root: Path) -> None:
    assert task(root).splits(0)["val"].tolist() == [2, 3, 8, 9]
    names = {"train": "north", "val": ["south"], "test": []}
    with pytest.raises(UserError, match="no usable window belongs to test"):
        task(root, split={"by": "group", "names": names})
    extra = window_folder(root, 11)
    (root / "windows" / "exam").mkdir()
    extra.rename(root / "windows" / "exam" / "w11")
    names["test"] = "exam"
    data = task(root, split={"by": "group", "names": names})
    assert {name: len(rows) for name, rows in data.splits(0).items()} == {
        "train": 6,
        "val": 5,
        "test": 1,
    }
    assert data.ids[data.splits(0)["test"][0]] == "exam/w11"
    farms = task(root, split={"by": "seed", "together": "farm"})
    kept = [{farms.ids[row][-2:] for row in rows} for rows in farms.splits(1).values()]
    assert sum(len({int(n) % 4 for n in each}) for each in kept) == 4
    stratified = task(root, split={"by": "seed"})
    assert all(set(stratified.labels[rows]) == {0, 1} for rows in stratified.splits(3).values())


def test_neighbours_stay_in_one_split_by_location(root: Path) -> None:
    for number in range(COUNT):
        # Pairs of neighbours, 20 km from pair to pair.
        x = mini.LEFT + number // 2 * 2000

        def moved(said: Any, x: int = x) -> None:
            said["bounds"][0], said["bounds"][2] = x, x + SIDE

        rewrite(window_folder(root, number) / "metadata.json", moved)
    data = task(root, split={"by": "location", "cell": 10_000})
    for seed in range(3):
        pairs = [{row // 2 for row in rows} for rows in data.splits(seed).values()]
        assert sum(map(len, pairs)) == len(set.union(*pairs)) == COUNT // 2
    with pytest.raises(UserError, match=r"geotiff.tif does not lie where its window does"):
        data.read([5])


def test_windows_that_are_not_complete_are_counted_and_named(root: Path) -> None:
    (window_folder(root, 3) / "layers" / "sentinel2.1" / "completed").unlink()
    shutil.rmtree(window_folder(root, 4) / "layers" / "sentinel1")
    mini.write_features(window_folder(root, 5), [{"class": None}])
    data = task(root)
    assert len(data.ids) == COUNT - 3
    notes = " ".join(data.card.notes)
    assert "2 lack a layer or its mark completed (north/w03, north/w04); they are" in notes
    assert "1 have no label (north/w05); they are left out" in notes
    for file in root.glob("windows/*/*/layers/label/completed"):
        file.unlink()
    with pytest.raises(UserError, match=r"No window of .* is usable: of 12, 12 have no label \(no"):
        task(root)


def test_features_that_differ_are_noted(root: Path) -> None:
    mini.write_features(window_folder(root, 2), [{"class": "water"}, {"class": "forest"}])
    data = task(root)
    assert data.card.classes[data.labels[2]] == "water"
    assert "1 have features of different labels (north/w02); the first" in data.card.notes[0]


def test_sizes_differ(root: Path) -> None:
    folder = window_folder(root, 2)
    shutil.rmtree(folder)
    mini.write_window(folder, 2, side=24)
    with pytest.raises(UserError, match=r"differ in size \(16 x 16, 24 x 24\); give side"):
        task(root)
    data = task(root, side=16, **MAPS)
    np.testing.assert_array_equal(data.labels[2], mini.cover(2, 24)[4:20, 4:20, 0])
    np.testing.assert_array_equal(
        data.read([2]).images["sentinel2_l2a"][0, :, :, 1, :4],
        mini.pixels(2, 1, "B02 B03 B04 B08", 24)[4:20, 4:20],
    )


def test_numbers_of_steps_differ(root: Path) -> None:
    folder = window_folder(root, 2)
    shutil.rmtree(folder)
    mini.write_window(folder, 2, steps=2)
    with pytest.raises(UserError, match=r"sentinel2_l2a 2 in 1 windows, 3 in 11 windows.*steps: N"):
        task(root)
    assert len(task(root, steps=3).ids) == COUNT - 1
    two = task(root, steps=2)
    assert (len(two.ids), two.card.steps) == (COUNT, 2)
    assert two.read([0]).timestamps[0].tolist() == [[15, 4, 2020], [15, 5, 2020]]
    with pytest.raises(UserError, match="No window has 4 time steps; the longest has 3"):
        task(root, steps=4)


def test_steps_out_of_order_or_repeated(root: Path) -> None:
    def turned(said: Any) -> None:
        for each in said:
            each["serialized_item_groups"].reverse()

    for number in range(COUNT):
        rewrite(window_folder(root, number) / "items.json", turned)
    with pytest.raises(
        UserError, match=r"steps 1 and 2 .* \(2020-07-15, then 2020-06-15\); .*time"
    ):
        task(root)
    data = task(root, order="time")
    assert data.read([0]).timestamps[0, :, 1].tolist() == [4, 5, 6]
    np.testing.assert_array_equal(
        data.read([0]).images["sentinel1"][0, :, :, 0], mini.pixels(0, 2, "vv vh")
    )

    def repeated(said: Any) -> None:
        said[0]["serialized_item_groups"][1] = said[0]["serialized_item_groups"][0]

    rewrite(window_folder(root, 6) / "items.json", repeated)
    with pytest.raises(UserError, match=r"w06: time steps 2 and 3 of layer sentinel2 are both of"):
        task(root, order="time")


def test_dates_that_nobody_says_are_assumed_and_noted(root: Path) -> None:
    for file in root.glob("windows/*/*/items.json"):
        file.unlink()
    data = task(root)
    # Middles of three equal parts of May to July.
    assert data.read([1]).timestamps[0].tolist() == [[16, 4, 2020], [16, 5, 2020], [16, 6, 2020]]
    assert "12 do not say when their images were taken" in " ".join(data.card.notes)
    rewrite(window_folder(root, 0) / "metadata.json", lambda said: said.update(time_range=None))
    with pytest.raises(UserError, match="w00 has 3 time steps and no dates"):
        task(root)
    # A raster's own record comes first.
    folder = window_folder(root, 1) / "layers" / "sentinel2" / "B02_B03_B04_B08"
    said = {"num_channels": 4, "num_timesteps": 1, "timestamps": [["2020-03-03", "2020-03-05"]]}
    (folder / "metadata.json").write_text(json.dumps(said))
    data = task(root, layers={"sentinel2_l2a": ["sentinel2"]})
    assert data.read([1]).timestamps[0].tolist() == [[4, 2, 2020]]
    assert data.read([0]).timestamps[0].tolist() == [[1, 6, 2020]]


def test_radar_in_power_becomes_decibels(root: Path) -> None:
    with pytest.raises(UserError, match=r"go down to .*, which no power does; remove radar: power"):
        task(root, radar="power").read([0])
    power = np.random.default_rng(0).uniform(0.01, 0.3, (SIDE, SIDE, 2)).astype(np.float32)
    for step in range(STEPS):
        group = mini.item_group(window_folder(root, 0), "sentinel1", step)
        mini.write_raster(group / "vv_vh" / "geotiff.tif", power, (mini.LEFT, mini.TOP), 10)
    with pytest.raises(UserError, match="as power is and decibels are not; write radar: power"):
        task(root).read([0])
    image = task(root, radar="power").read([0]).images["sentinel1"][0, :, :, 0]
    np.testing.assert_allclose(10 ** (image / 10), power, rtol=1e-5)


def test_lzw_in_tiles_and_damaged(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 6000, (37, 21, 3)).astype(np.uint16)
    file = tmp_path / "tiles.tif"
    mini.write_raster(file, image, (0, 0), 10, tile=16)
    np.testing.assert_array_equal(read_tiff(file), image)
    mini.write_raster(file, np.zeros((40, 60, 1), np.float32), (0, 0), 10)  # long entries
    assert not read_tiff(file).any()
    apart = np.diff(image, axis=1, prepend=np.zeros_like(image[:, :1]))
    mini.write_raster(file, apart, (0, 0), 10, predictor=2)  # each pixel's step from its left one
    np.testing.assert_array_equal(read_tiff(file), image)
    mini.write_raster(file, image, (0, 0), 10, predictor=3)
    with pytest.raises(UserError, match=r"tiles.tif is compressed in a way that needs the package"):
        read_tiff(file)
    mini.write_raster(file, image, (0, 0), 10)
    with tifffile.TiffFile(file) as tiff:
        offset = tiff.pages.first.dataoffsets[1]
    damaged = bytearray(file.read_bytes())
    damaged[offset : offset + 40] = b"\xff" * 40
    file.write_bytes(damaged)
    with pytest.raises(UserError, match=r"tiles.tif is not a readable TIFF \(LZW code 511"):
        read_tiff(file)


def change(path: str, **settings: Any) -> Callable[[Path], None]:
    return lambda root: rewrite(root / path, lambda said: said.update(settings))


def removed(path: str) -> Callable[[Path], None]:
    return lambda root: (root / path).unlink()


def as_is(root: Path) -> None:
    pass


def outside(root: Path) -> None:
    folder = window_folder(root, 11)
    shutil.move(folder, root.parent / "elsewhere")
    folder.symlink_to(root.parent / "elsewhere")


def smaller_mask(root: Path) -> None:
    folder = window_folder(root, 0) / "layers" / "cover" / "cover"
    mini.write_raster(folder / "geotiff.tif", mini.cover(0)[:15], (mini.LEFT, mini.TOP), 10)


def truncated(root: Path) -> None:
    file = window_folder(root, 0) / "layers" / "sentinel2" / "B02_B03_B04_B08" / "geotiff.tif"
    file.write_bytes(file.read_bytes()[:-300])


W0 = "windows/north/w00"
S2 = {"sentinel2_l2a": "sentinel2"}


@pytest.mark.parametrize(
    ("broken", "settings", "said"),
    [
        (removed("config.json"), {}, "has no config.json, so it is no rslearn data set"),
        (change("config.json", layers={}), {}, 'lists no "layers", so it is not the config'),
        (as_is, {"layers": {"sentinel2_l2a": "sentinel3"}}, 'no layer "sentinel3": did you mean'),
        (as_is, {"layers": {"sentinel2_l2a": "label"}}, '"label" is a vector layer; a raster'),
        (as_is, {"layers": {"sentinel2": "sentinel2"}}, 'task.yaml:.*Unknown modality "sentinel2"'),
        (as_is, {"layers": {"sentinel1": "sentinel2"}}, 'band "B02" of .* is no band of sentinel1'),
        (as_is, {"bands": {"sentinel1": ["vx"]}}, 'layer "sentinel1" has no band "vx"'),
        (as_is, {"groups": ["nort"]}, 'no group "nort": did you mean "north"'),
        (as_is, {"label": {"layer": "label", "property": "clas"}}, 'no property "clas": did you'),
        (as_is, {"label": {"layer": "label"}}, '"label" is a vector layer and its property'),
        (as_is, {**MAPS, "label": {"layer": "cover", "band": "x"}}, 'has no band "x"'),
        (as_is, {"classes": ["forest", "sand"]}, 'w01: its class "water" is not in the list'),
        (as_is, {**MAPS, "classes": ["a", "b"], "ignore": 0.5}, "must be a whole number"),
        (as_is, {"kind": "values"}, "w00: its label 'forest' is no number"),
        (as_is, {"split": {"by": "option", "key": "farm"}}, '"farm" is "0", which stands for no p'),
        (as_is, {"split": {"by": "option", "key": "part"}}, 'no option "part"'),
        (change(f"{W0}/metadata.json", options={"split": "exam"}), {}, '"exam", which stands for'),
        (change(f"{W0}/metadata.json", bounds=[1]), {}, "metadata.json describes no window"),
        (removed(f"{W0}/metadata.json"), {}, "metadata.json is missing"),
        (outside, {}, "w11 leads outside of the data set"),
        (
            change("config.json", layers={**mini.config()["layers"], "../x": {"type": "vector"}}),
            {},
            'layer name "../x" leads outside',
        ),
        (change("config.json", storage={"class_path": "a.SQLiteX"}), {}, "its windows by SQLiteX"),
    ],
)
def test_every_mistake_is_named(
    root: Path, broken: Callable[[Path], None], settings: dict[str, Any], said: str
) -> None:
    broken(root)
    with pytest.raises(UserError, match=said):
        task(root, **settings)


def test_files_that_do_not_fit_are_named_when_read(root: Path) -> None:
    smaller_mask(root)
    with pytest.raises(UserError, match=r"cover/geotiff.tif has 15 x 16 pixels, but .* 16 x 16"):
        _ = task(root, **MAPS).labels
    mini.write_raster(
        window_folder(root, 0) / "layers/cover/cover/geotiff.tif",
        np.full((SIDE, SIDE, 1), 7, np.uint8),
        (mini.LEFT, mini.TOP),
        10,
    )
    with pytest.raises(UserError, match="holds 7, but the task has classes 0 to 1"):
        _ = task(root, **MAPS).labels
    truncated(root)
    with pytest.raises(UserError, match=r"w00/layers/sentinel2/B02_.*is not a readable TIFF"):
        task(root).read([0])


def test_the_check_says_what_it_finds(root: Path) -> None:
    task(root)
    arguments = ["data", "check", str(root.parent / "task.yaml"), "--store", str(root.parent / "s")]
    checked = CliRunner().invoke(app, arguments).output
    assert "mangroves: 12 samples" in checked
    assert "2 classes with 6 to 6 samples each; splits: 4 train, 4 val, 4 test" in checked
    (window_folder(root, 11) / "layers" / "label" / "completed").unlink()
    truncated(root)
    checked = CliRunner().invoke(app, arguments)
    assert checked.exit_code == 1
    assert "Windows: 1 have no label (south/w11); they are left out." in checked.output
    assert "geotiff.tif is not a readable TIFF" in checked.output


def test_a_suite_that_names_the_file_runs(root: Path) -> None:
    task(root)
    pico = {"family": "olmoearth", "sizes": {"pico": {"dim": 32, "depth": 1, "heads": 4}}}
    pico["versions"] = {"one": {"scheme": "single", "sizes": ["pico"]}}
    (root.parent / "pico.yaml").write_text(yaml.safe_dump(pico))
    suite = {
        "name": "own",
        "title": "Mangroves",
        "registry": ["pico.yaml"],
        "tier": "random",
        "seeds": [0],
        "protocol": {"patch_size": 8, "bootstrap": 100},
        "variants": ["olmoearth-one-pico"],
        "baselines": ["baseline-statistics-mean_std"],
        "tasks": [{"name": "mangroves", "dataset": "task.yaml", "probe": {"kind": "knn", "k": 3}}],
    }
    file = root.parent / "own.yaml"
    file.write_text(yaml.safe_dump(suite))
    options = RunOptions(data_dir=None, store=root.parent / "store", weights_dir=None)
    found = measure(Console(quiet=True), file, str(file), options).results
    assert found.scores["cell"].n_unique() == 2
