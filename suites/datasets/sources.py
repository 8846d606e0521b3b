"""Where each data set comes from: hosts, files, published checksums and sizes, licences.

A table, and nothing that asks a server. Checksums and sizes that stand here are the publishers'
own, or those of files that were read here; where none stands, the publisher is asked for one when
the file is fetched (the hub, Zenodo, a bucket, GitHub), and where nobody publishes one, that is
said.
"""

from __future__ import annotations

from suites.datasets.geobench_specs import SPECS
from suites.datasets.places import AtAddress, InBucket, InCommit, OnHub, OnZenodo, Part, Source

_EUROSAT = ("torchgeo/eurosat", "1ce6f1bfb56db63fd91b6ecc466ea67f2509774c")
_EUROSAT_SHA256 = {
    "eurosat-train.txt": "1c1d2e855f95deee605a3d992f914d113fddbecf422ec61648057d029a37d695",
    "eurosat-val.txt": "b385741f31daa9f1250cf1e1fe03adfab394e1172e0693df40141af004f60330",
    "eurosat-test.txt": "cf37948894c12bd953930ff54ee9b7abf0b31478abb8d25fd2c6c721db74c592",
    "EuroSATallBands.zip": "751f070f9bffa2eed48b24ca2dd0b02959280c08837e8c9a5532a67ba611df59",
}
_EUROSAT_SPATIAL_MD5 = {
    "train": "7be3254be39f23ce4d4d144290c93292",
    "val": "acf392290050bb3df790dc8fc0ebf193",
    "test": "5ec1733f9c16116bf0aa2d921fc613ef",
}
_BREIZH = "https://breizhcrops.s3.eu-central-1.amazonaws.com"
_BREIZH_H5 = {
    "L1C": {"frh01": 2559635960, "frh02": 2253658856, "frh03": 2493572704, "frh04": 1555075632},
    "L2A": {"frh01": 987259904, "frh02": 803457960, "frh03": 890027448, "frh04": 639215848},
}
_CROPHARVEST = 10251170
_PRESTO = (
    "https://raw.githubusercontent.com/nasaharvest/presto/13173d028f035abcbcc3b13829314323a5c15d02"
)
_FUEL = {
    "dynamic_world": (7067, "c00df7de035980c570b3f3af30f98025c2c7349e37abe54864148d5819b8d677"),
    "is_test": (18632, "e6b98035b21df025b38ebe80c315592f4484250c2f044e8e782682dbba23182b"),
    "latlon": (37136, "a31dc1f4c68c8614ac1cfa0e1cdf24d6ac9448e4a16e977605b0e563cb92595f"),
    "month": (55640, "173f17192cb2dcd7bc7fc3c8dfba2c0690aa3ce023a90f94d9c2d4e5ccdfdf91"),
    "site": (268436, "7f7e8f73f2b2ccd4a84a5d5cd7213d6b63807616ca9750038125d94b62f25494"),
    "target": (18632, "c0a178b8521481d85fd4fede1ebbb01e475d7c05c7b5162c0c6029afb54e11d4"),
    "s1_s2_era5_srtm": (
        999344, "588e25049e68cb9c64572649518badab49ae418e130144c3b47a67797507da3e"
    ),
}  # fmt: skip
"""Sizes and SHA-256; the loader looks for the last one."""


def _breizhcrops(level: str, size: str) -> Source:
    parts = [Part(AtAddress(f"{_BREIZH}/classmapping.csv"), "breizhcrops/classmapping.csv")]
    for region, unpacked in _BREIZH_H5[level].items():
        for suffix, packed, expected in ((".csv", "", None), (".h5", ".tar.gz", unpacked)):
            file = f"2017/{level}/{region}{suffix}"
            where = AtAddress(f"{_BREIZH}/{file}{packed}")
            parts.append(Part(where, f"breizhcrops/{file}", unpacked=expected))
    return Source(
        tuple(parts),
        "not stated (code GPL-3.0; labels: RPG of IGN; Copernicus data)",
        "https://github.com/dl4sits/BreizhCrops",
        size,
        f"Level {level}. Published are the sizes of the unpacked series, no checksums.",
    )


SOURCES: dict[str, Source] = {
    "eurosat": Source(
        (
            *(
                Part(
                    OnHub(*_EUROSAT, name),
                    "eurosat/ds" if name.endswith(".zip") else f"eurosat/{name}",
                    f"sha256:{sha256}",
                )
                for name, sha256 in _EUROSAT_SHA256.items()
            ),
            *(
                Part(
                    OnHub(*_EUROSAT, f"eurosat-spatial-{name}.txt"),
                    f"eurosat/eurosat-spatial-{name}.txt",
                    f"md5:{md5}",
                )
                for name, md5 in _EUROSAT_SPATIAL_MD5.items()
            ),
        ),
        "MIT",
        "https://github.com/phelber/EuroSAT",
        "2 GB",
    ),
    **{
        spec.name: Source(
            (
                Part(
                    OnHub("recursix/geo-bench-1.0", "main", f"{spec.part}/{spec.folder}.zip"),
                    f"geobench_v1/{spec.part}/{spec.folder}",
                ),
            ),
            spec.licence,
            "https://github.com/ServiceNow/geo-bench",
            "",
        )
        for spec in SPECS.values()
    },
    "bark-beetle": Source(
        (
            Part(
                InCommit(
                    "CrickCrock28/bark-bettle-damage-mapping-sentinel2",
                    "9d75d3891bf166d508142ae18255d58f64182b46",
                    (
                        (r"data/(20\d\d)-.+/sentinel_2/geojson_(\d+)\.tif", r"\1/\2.tif"),
                        (r"data/masks/(train|test)/mask_(\d+)\.tif", r"mask/\2.tif"),
                    ),
                    ("splits.json", r"data/masks/(train|test)/mask_(\d+)\.tif"),
                ),
                "bark_beetle",
            ),
        ),
        "not stated (Copernicus data)",
        "https://github.com/CrickCrock28/bark-bettle-damage-mapping-sentinel2",
        "18 MB",
    ),
    "crop-series": Source(
        (
            Part(
                AtAddress(
                    "https://raw.githubusercontent.com/WorldCereal/presto-worldcereal/"
                    "30ab19c94424fb600032b60c47cbce7406664980/data/"
                    "test_long_parquet_2017_CAN_AAFC-ACIGTD.parquet"
                ),
                "crop_series/canada_2017.parquet",
                "sha256:7d4d37a223f104ee3062394b49e1307dbfcbd9973380f229564674c3331b4b83",
                2183630,
            ),
        ),
        "not stated (Annual Crop Inventory of AAFC; Copernicus data)",
        "https://github.com/WorldCereal/presto-worldcereal",
        "2 MB",
    ),
    "fuel-moisture": Source(
        tuple(
            Part(
                AtAddress(f"{_PRESTO}/data/fuel_moisture/npy/{name}.npy"),
                f"fuel_moisture/{name}.npy",
                f"sha256:{sha256}",
                size,
            )
            for name, (size, sha256) in _FUEL.items()
        ),
        "MIT",
        "https://github.com/nasaharvest/presto",
        "1 MB",
    ),
    "pastis-r": Source(
        (
            Part(
                OnZenodo(5735646, "PASTIS-R.zip"),
                "PASTIS-R",
                "md5:4887513d6c2d2b07fa935d325bd53e09",
            ),
        ),
        "CC BY 4.0",
        "https://doi.org/10.5281/zenodo.5735646",
        "54 GB",
    ),
    "sen1floods11": Source(
        (
            Part(
                InBucket(
                    "sen1floods11",
                    "v1.1/",
                    (
                        *(
                            f"v1.1/data/flood_events/HandLabeled/{layer}/"
                            for layer in ("S1Hand", "S2Hand", "LabelHand")
                        ),
                        "v1.1/splits/flood_handlabeled/",
                    ),
                ),
                "sen1floods11/v1.1",
            ),
        ),
        "not stated (Copernicus data)",
        "https://github.com/cloudtostreet/Sen1Floods11",
        "a few GB",
        "The hand-labelled chips and their lists, of some 14 GB.",
    ),
    "mados": Source(
        (Part(OnZenodo(10664073, "MADOS.zip"), "MADOS"),),
        "CC BY 4.0",
        "https://doi.org/10.5281/zenodo.10664073",
        "4 GB",
    ),
    "breizhcrops": _breizhcrops("L1C", "8.9 GB unpacked"),
    "breizhcrops-l2a": _breizhcrops("L2A", "3.3 GB unpacked"),
    "cropharvest": Source(
        (
            Part(OnZenodo(_CROPHARVEST, "labels.geojson"), "cropharvest/labels.geojson"),
            Part(OnZenodo(_CROPHARVEST, "test_features.tar.gz"), "cropharvest/test_features"),
            Part(OnZenodo(_CROPHARVEST, "features.tar.gz"), "cropharvest/features"),
        ),
        "CC BY-SA 4.0",
        "https://doi.org/10.5281/zenodo.10251170",
        "0.95 GB",
    ),
}
