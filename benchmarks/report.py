"""How long a report takes, from a fresh interpreter to the last file: 40 variants x 20 tasks x 3.

Results are made up; what is timed is a process of its own that loads them, computes every
analysis and writes the whole report, as `tokenrank report` does.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

from reports.io import save_results
from reports.table import (
    SAMPLE_SCHEMA,
    SCORE_SCHEMA,
    VARIANT_SCHEMA,
    RunInfo,
    SuiteResults,
    TaskInfo,
)

VARIANTS, TASKS, SEEDS = 40, 20, 3
SIZES = ("nano", "tiny", "small", "base", "large")
PROGRAM = (
    "import sys; from pathlib import Path; from reports.build import build_report; "
    "from reports.io import load_results; "
    "build_report(load_results(Path(sys.argv[1])), Path(sys.argv[2]))"
)


def main() -> None:
    """Time reports on small and on large test sets."""
    for n_test in (140, 1000):
        with tempfile.TemporaryDirectory() as folder:
            save_results(made_up(n_test), Path(folder, "results"))
            command = [sys.executable, "-c", PROGRAM, f"{folder}/results", f"{folder}/report"]
            start = time.perf_counter()
            subprocess.run(command, check=True)
            seconds = time.perf_counter() - start
            files = list(Path(folder, "report").iterdir())
        print(
            f"{VARIANTS} variants x {TASKS} tasks x {SEEDS} seeds, {n_test} test samples each: "
            f"{seconds:.1f} s, {len(files)} files"
        )


def made_up(n_test: int) -> SuiteResults:
    """Results of variants that are right with a probability of their own."""
    rng = np.random.default_rng(0)
    names = [
        f"{family}-{version}-{size}"
        for family in ("olmoearth", "galileo")
        for version in ("v1", "v1.1", "v1.2", "v1.3")
        for size in SIZES
    ][:VARIANTS]
    chances = dict(zip(names, rng.uniform(0.5, 0.85, len(names)), strict=True))
    tasks = tuple(_task(f"task-{i:02d}", n_test) for i in range(TASKS))
    samples, scores = [], []
    for task in tasks:
        for seed in range(SEEDS):
            difficulty, labels = rng.uniform(size=n_test), rng.integers(10, size=n_test)
            for name, chance in chances.items():
                hit = difficulty + rng.normal(0, 0.15, n_test) < chance
                wrong = (labels + 1) % 10
                cell = {"variant": name, "task": task.name, "seed": seed}
                samples.append(
                    pl.DataFrame(
                        {
                            "sample": [f"s{i:05d}" for i in range(n_test)],
                            "label": labels,
                            "prediction": np.where(hit, labels, wrong),
                            "value": hit.astype(float),
                            "confidence": np.clip(0.9 - difficulty / 2, 0.1, 1),
                        }
                    ).with_columns(**{key: pl.lit(value) for key, value in cell.items()})
                )
                scores.append({**cell, "score": float(hit.mean())})
    typed = pl.concat(samples).select(pl.col(c).cast(t) for c, t in SAMPLE_SCHEMA.items())
    variants = pl.DataFrame([_variant(name) for name in names], schema=VARIANT_SCHEMA)
    return SuiteResults(_run(tasks), variants, pl.DataFrame(scores, schema=SCORE_SCHEMA), typed)


def _task(name: str, n_test: int) -> TaskInfo:
    return TaskInfo(
        name=name,
        dataset=name,
        title="Made-up classes",
        origin="simulated",
        metric="accuracy",
        higher_is_better=True,
        protocol="None: the predictions are made up.",
        probe="none",
        bands=("B02",),
        partition="default",
        height=64,
        width=64,
        steps=1,
        patch_size=4,
        n_train=n_test,
        n_val=n_test,
        n_test=n_test,
        classes=tuple(f"class {i}" for i in range(10)),
        fingerprint="0" * 64,
        licence="none",
        notes=(),
    )


def _variant(name: str) -> dict[str, object]:
    family, version, size = name.split("-")
    macs = 1e9 * 6.0 ** SIZES.index(size) * (3 if version == "v1" else 1)
    return {
        "variant": name,
        "family": family,
        "version": version,
        "size": size,
        "scheme": "resolution" if version == "v1" else "single",
        "tier": "random",
        "licence": "none",
        "groups": 3 if version == "v1" else 1,
        "params": int(macs / 700),
        "tokens": 768.0 if version == "v1" else 256.0,
        "macs": macs,
        "macs_patch_embedding": 0.0,
        "macs_linear": macs * 0.6,
        "macs_attention": macs * 0.4,
        "weights_hash": "none",
        "published_gflops": None,
    }


def _run(tasks: tuple[TaskInfo, ...]) -> RunInfo:
    return RunInfo(
        suite="benchmark",
        title="Made-up results",
        description="",
        suite_hash="0" * 64,
        seeds=tuple(range(SEEDS)),
        tasks=tasks,
        missing=(),
        versions={},
        git_commit="",
        command="python -m benchmarks report",
    )


if __name__ == "__main__":
    main()
