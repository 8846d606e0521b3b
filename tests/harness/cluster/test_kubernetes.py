"""The manifests: valid by Kubernetes' own schemas, and they mean what tokenrank understands.

KubeRay's own kinds are not among those schemas: a RayJob's fields are checked by a schema that is
written here, after the API reference of KubeRay 1.7. It knows fewer fields, and is strict.
"""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray
import yaml
from packaging.requirements import Requirement

from harness.executors.profile import load_profile
from harness.suite import suite_path

kubernetes_validate = pytest.importorskip(
    "kubernetes_validate", reason="kubernetes-validate is a development dependency"
)
ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "deploy" / "kubernetes"
SHARED = list(yaml.safe_load_all((FOLDER / "store.yaml").read_text(encoding="utf-8")))
JOB = yaml.safe_load((FOLDER / "rayjob.yaml").read_text(encoding="utf-8"))
CLUSTER = JOB["spec"]["rayClusterSpec"]
TEMPLATES = [CLUSTER["headGroupSpec"], *CLUSTER["workerGroupSpecs"]]


def an_object(required: str = "", **fields: Any) -> dict[str, Any]:
    closed = {"type": "object", "additionalProperties": False}
    return {**closed, "properties": fields, "required": required.split()}


FLAG, TEXT, COUNT = {"type": "boolean"}, {"type": "string"}, {"type": "integer", "minimum": 0}
TEXTS = {"type": "object", "additionalProperties": TEXT}
POD = an_object("spec", metadata={"type": "object"}, spec={"type": "object"})
GROUP = {"rayStartParams": TEXTS, "template": POD, "labels": TEXTS, "resources": TEXTS}
COUNTS = dict.fromkeys(("replicas", "minReplicas", "maxReplicas", "numOfHosts"), COUNT)
RAY_CLUSTER = an_object(
    "headGroupSpec",
    rayVersion=TEXT,
    enableInTreeAutoscaling=FLAG,
    autoscalerOptions=an_object(
        idleTimeoutSeconds=COUNT,
        version={"enum": ["v1", "v2"]},
        upscalingMode={"enum": ["Default", "Aggressive", "Conservative"]},
        resources={"type": "object"},
    ),
    headGroupSpec=an_object("template", serviceType=TEXT, **GROUP),
    workerGroupSpecs={
        "type": "array",
        "items": an_object(
            "groupName minReplicas maxReplicas template",
            groupName=TEXT,
            idleTimeoutSeconds=COUNT,
            suspend=FLAG,
            **COUNTS,
            **GROUP,
        ),
    },
)
RAY_JOB = an_object(
    "apiVersion kind metadata spec",
    apiVersion={"const": "ray.io/v1"},
    kind={"const": "RayJob"},
    metadata=an_object("name", name=TEXT, namespace=TEXT, labels=TEXTS, annotations=TEXTS),
    spec=an_object(
        "entrypoint rayClusterSpec",
        entrypoint=TEXT,
        runtimeEnvYAML=TEXT,
        submissionMode={"enum": ["K8sJobMode", "HTTPMode", "SidecarMode", "InteractiveMode"]},
        shutdownAfterJobFinishes=FLAG,
        ttlSecondsAfterFinished=COUNT,
        activeDeadlineSeconds=COUNT,
        backoffLimit=COUNT,
        suspend=FLAG,
        rayClusterSpec=RAY_CLUSTER,
    ),
)


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


def test_the_job_is_valid() -> None:
    jsonschema.validate(JOB, RAY_JOB)


def _misspelt(job: dict[str, Any]) -> None:
    job["spec"]["rayClusterSpec"]["enableInTreeAutoScaling"] = True


def _misplaced(job: dict[str, Any]) -> None:
    job["spec"]["rayVersion"] = ray.__version__


def _a_number_for_a_text(job: dict[str, Any]) -> None:
    job["spec"]["rayClusterSpec"]["headGroupSpec"]["rayStartParams"]["num-cpus"] = 0


def _unnamed(job: dict[str, Any]) -> None:
    del job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["groupName"]


@pytest.mark.parametrize("mistake", [_misspelt, _misplaced, _a_number_for_a_text, _unnamed])
def test_a_mistake_in_the_job_is_seen(mistake: Callable[[dict[str, Any]], None]) -> None:
    """Kubernetes drops what it does not know, without a word."""
    wrong = deepcopy(JOB)
    mistake(wrong)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, RAY_JOB)


def test_workers_that_come_and_go_have_an_autoscaler() -> None:
    """The operator alone keeps ``replicas`` of them, whatever the bounds say."""
    for group in CLUSTER["workerGroupSpecs"]:
        least, first, most = (group[f] for f in ("minReplicas", "replicas", "maxReplicas"))
        assert least <= first <= most
        assert CLUSTER.get("enableInTreeAutoscaling", False) or least == most


def test_the_image_has_what_the_operator_asks_of_it() -> None:
    """The dashboard, to which jobs are submitted and which probes ask; some ask by wget."""
    image = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
    assert re.search(r"apt-get install .*\bwget\b", image)
    found = re.search(r'pip install .*"\.\[([\w,]+)\]"', image)
    assert found is not None
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [project["optional-dependencies"][name] for name in found[1].split(",")]
    needed = [Requirement(each) for extra in extras for each in extra]
    [ours] = [each for each in needed if each.name == "ray"]
    assert ours.extras == {"default"}
    assert CLUSTER["rayVersion"] in ours.specifier


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
