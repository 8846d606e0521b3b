"""The manifests: valid by Kubernetes' own schemas, and they mean what tokenrank understands.

KubeRay's own kinds are not among those schemas; of a RayJob its pods are checked.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml

from harness.executors.profile import load_profile
from harness.suite import suite_path

kubernetes_validate = pytest.importorskip(
    "kubernetes_validate", reason="kubernetes-validate is a development dependency"
)
FOLDER = Path(__file__).parents[3] / "deploy" / "kubernetes"
SHARED = list(yaml.safe_load_all((FOLDER / "store.yaml").read_text(encoding="utf-8")))
JOB = yaml.safe_load((FOLDER / "rayjob.yaml").read_text(encoding="utf-8"))
CLUSTER = JOB["spec"]["rayClusterSpec"]
TEMPLATES = [CLUSTER["headGroupSpec"], *CLUSTER["workerGroupSpecs"]]


@pytest.mark.parametrize("manifest", SHARED, ids=lambda each: each["metadata"]["name"])
def test_what_is_shared_is_valid(manifest: dict[str, Any]) -> None:
    kubernetes_validate.validate(manifest, "1.30", strict=True)


@pytest.mark.parametrize("group", TEMPLATES, ids=["head", "workers"])
def test_the_pods_are_valid_and_mount_what_is_there(group: dict[str, Any]) -> None:
    spec = group["template"]["spec"]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": spec}
    kubernetes_validate.validate(pod, "1.30", strict=True)
    mounted = {m["name"] for c in spec["containers"] for m in c["volumeMounts"]}
    assert mounted == {volume["name"] for volume in spec["volumes"]}
    named = {each["metadata"]["name"] for each in SHARED}
    for volume in spec["volumes"]:
        claim = volume.get("persistentVolumeClaim", {}).get("claimName")
        assert (claim or volume["configMap"]["name"]) in named


def test_the_entry_point_is_a_command_that_tokenrank_has(tmp_path: Path) -> None:
    words = shlex.split(JOB["spec"]["entrypoint"])
    assert words[:2] == ["tokenrank", "run"]
    assert suite_path(words[2]).is_file()
    options = dict(zip(words[3::2], words[4::2], strict=True))
    assert options.keys() == {"--data-dir", "--store", "--profile"}
    mounts = {m["mountPath"] for m in _container(CLUSTER["headGroupSpec"])["volumeMounts"]}
    assert {options["--data-dir"], options["--store"]} < mounts
    folder, _, name = options["--profile"].rpartition("/")
    assert folder in mounts
    settings = next(each for each in SHARED if each["kind"] == "ConfigMap")["data"]
    (tmp_path / name).write_text(settings[name])
    profile = load_profile(tmp_path / name)
    assert (profile.executor, profile.ray.address) == ("ray", "auto")


def test_all_pods_run_the_same_code_and_the_pinned_ray() -> None:
    assert len({_container(group)["image"] for group in TEMPLATES}) == 1
    assert CLUSTER["rayVersion"] == ray.__version__


def _container(group: dict[str, Any]) -> dict[str, Any]:
    containers: list[dict[str, Any]] = group["template"]["spec"]["containers"]
    return containers[0]
