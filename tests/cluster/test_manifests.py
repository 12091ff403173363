"""cluster/: each file against the schema of what reads it, and against this repository."""

import json
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from dockerfile_parse import DockerfileParser

from s2d_ray.doctor import read_lock
from s2d_ray.recipes.load import shipped_recipes

REPOSITORY = Path(__file__).parents[2]
CLUSTER = REPOSITORY / "cluster"
KUBERAY = CLUSTER / "kuberay"
CRDS = Path(__file__).parent / "kuberay" / "crds.json"
SPEC = ("spec", "rayClusterSpec")
KERNELS = {"CUDA_CACHE_PATH", "FLASHINFER_WORKSPACE_BASE", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"}
"""What names the folders of compiled kernels that do not follow XDG_CACHE_HOME."""
SPOT_TAINTS = {"cloud.google.com/gke-spot", "kubernetes.azure.com/scalesetpriority"}


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def as_the_server_checks(schema: Any) -> Any:
    """A schema of Kubernetes as one of JSON: unknown fields are refused, quantities may be numbers."""
    if isinstance(schema, list):
        return [as_the_server_checks(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: as_the_server_checks(value) for key, value in schema.items()}
    if found.get("x-kubernetes-int-or-string") is True:
        return {"anyOf": [{"type": "integer"}, {"type": "string"}]}
    closed = isinstance(found.get("properties"), dict) and found.get("type") == "object"
    if closed and not found.get("x-kubernetes-preserve-unknown-fields"):
        found.setdefault("additionalProperties", False)
    return found


@pytest.fixture(scope="module")
def crds() -> dict[str, Any]:
    found: dict[str, Any] = as_the_server_checks(json.loads(CRDS.read_text()))
    return found


def check(crds: dict[str, Any], manifest: dict[str, Any]) -> None:
    """Raises ValidationError where KubeRay's API server would refuse the manifest."""
    jsonschema.Draft202012Validator({**crds[manifest["kind"]], "$defs": crds["$defs"]}).validate(manifest)


@pytest.mark.parametrize("name", ["raycluster", "rayjob", "rayservice"])
def test_kuberay_takes_the_manifest(crds: dict[str, Any], name: str) -> None:
    check(crds, load(KUBERAY / f"{name}.yaml"))


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("spec", "entrypont"), "python", "entrypont"),
        (("spec", "backoffLimit"), "three", "three"),
        ((*SPEC, "headGroupSpec", "template", "spec", "containers", 0, "imagePull"), "x", "imagePull"),
        ((*SPEC, "workerGroupSpecs", 0, "groupName"), 7, "7"),
        ((*SPEC, "autoscalerOptions", "version"), "v3", "v3"),
    ],
)
def test_kuberay_would_refuse_a_mistake(
    crds: dict[str, Any], path: tuple[str | int, ...], value: object, said: str
) -> None:
    manifest = load(KUBERAY / "rayjob.yaml")
    section = manifest
    for key in path[:-1]:
        section = section[key]
    section[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError, match=said):
        check(crds, manifest)


def cluster() -> Any:
    return load(KUBERAY / "raycluster.yaml")["spec"]


def serving_cluster() -> Any:
    return load(KUBERAY / "rayservice.yaml")["spec"]["rayClusterConfig"]


def pods() -> Iterator[Any]:
    """The spec of every pod that the manifests ask for, the submitter's last."""
    for spec in (cluster(), serving_cluster()):
        yield spec["headGroupSpec"]["template"]["spec"]
        yield from (group["template"]["spec"] for group in spec["workerGroupSpecs"])
    yield load(KUBERAY / "rayjob.yaml")["spec"]["submitterPodTemplate"]["spec"]


def test_the_job_brings_the_cluster_of_the_other_manifest() -> None:
    assert load(KUBERAY / "rayjob.yaml")["spec"]["rayClusterSpec"] == cluster()


def test_the_job_runs_what_the_image_has() -> None:
    python, script, recipe, option, root = load(KUBERAY / "rayjob.yaml")["spec"]["entrypoint"].split()
    assert (python, option) == ("python", "--root")
    assert (REPOSITORY / Path(script).relative_to("/app")).is_file()
    assert recipe in shipped_recipes()
    stored = {claim["metadata"]["name"] for claim in yaml.safe_load_all((KUBERAY / "storage.yaml").read_text())}
    for pod in list(pods())[:-1]:
        [mount] = [mount["name"] for mount in pod["containers"][0]["volumeMounts"] if mount["mountPath"] == root]
        claims = {v["name"]: v["persistentVolumeClaim"]["claimName"] for v in pod["volumes"] if v["name"] != "shm"}
        assert mount in claims
        assert set(claims.values()) == stored


def test_pods_run_the_images_user_and_not_root() -> None:
    [user] = {line["value"] for line in image() if line["instruction"] == "USER"}
    for pod in pods():
        assert (pod["securityContext"]["runAsNonRoot"], pod["securityContext"]["runAsUser"]) == (True, int(user))


def test_nobody_gets_in_without_a_token(aws: Any) -> None:
    assert cluster()["authOptions"] == serving_cluster()["authOptions"] == {"mode": "token"}
    for commands in (aws["head_start_ray_commands"], aws["worker_start_ray_commands"]):
        assert "RAY_AUTH_MODE=token" in commands[-1]
    assert "/home/ubuntu/.ray/auth_token" in aws["file_mounts"]
    assert "--dashboard-host=127.0.0.1" in aws["head_start_ray_commands"][-1]


def test_the_cluster_scales_from_nothing_and_lives_on_spot_machines() -> None:
    assert cluster()["enableInTreeAutoscaling"] is True
    assert cluster()["autoscalerOptions"]["version"] == "v2"
    assert cluster()["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    gpu, cpu = cluster()["workerGroupSpecs"]
    for group in (gpu, cpu):
        assert group["minReplicas"] == 0 < group["maxReplicas"]
        tolerated = {toleration["key"] for toleration in group["template"]["spec"]["tolerations"]}
        assert tolerated >= SPOT_TAINTS
    assert "nvidia.com/gpu" in gpu["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert "nvidia.com/gpu" not in cpu["template"]["spec"]["containers"][0]["resources"]["limits"]
    # The autoscaler's second version replaces pods itself.
    assert {pod["restartPolicy"] for pod in pods()} == {"Never"}


def test_ray_and_the_image_have_one_version_everywhere() -> None:
    assert cluster()["rayVersion"] == serving_cluster()["rayVersion"] == read_lock(REPOSITORY / "lock-gpu.txt")["ray"]
    [image_name] = {pod["containers"][0]["image"] for pod in pods()}
    version = re.search(r'^version = "(.*)"', (REPOSITORY / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    assert image_name == f"s2d-ray:{version[1]}"
    assert image_name in (CLUSTER / "Dockerfile").read_text()


@pytest.fixture(scope="module")
def launcher_schema() -> Any:
    """Ray's own; its package is found and not imported."""
    spec = find_spec("ray")
    assert spec is not None and spec.origin is not None
    return json.loads((Path(spec.origin).parent / "autoscaler" / "ray-schema.json").read_text())


@pytest.fixture
def aws() -> Any:
    return load(CLUSTER / "aws.yaml")


def test_the_launcher_takes_the_aws_cluster(launcher_schema: Any, aws: Any) -> None:
    jsonschema.validate(aws, launcher_schema)
    with pytest.raises(jsonschema.ValidationError, match="max_worker"):
        jsonschema.validate(aws | {"max_worker": 1}, launcher_schema)


def test_the_aws_cluster_grows_with_spot_machines_only(aws: Any) -> None:
    types = dict(aws["available_node_types"])
    head = types.pop(aws["head_node_type"])
    assert "InstanceMarketOptions" not in head["node_config"]
    assert head["resources"] == {"CPU": 0}
    assert any(kind["resources"].get("GPU") for kind in types.values())
    for kind in types.values():
        assert kind["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
        assert kind["min_workers"] == 0
    assert aws["max_workers"] >= max(kind["max_workers"] for kind in types.values())
    # Ray itself accepts a folder that is not there, and fails when it copies it.
    assert (REPOSITORY / aws["file_mounts"]["/home/ubuntu/s2d_ray"] / "Makefile").is_file()


def test_the_aws_profiles_are_those_that_are_created(aws: Any) -> None:
    named = {kind["node_config"]["IamInstanceProfile"]["Name"] for kind in aws["available_node_types"].values()}
    text = (CLUSTER / "aws-roles.yaml").read_text()
    assert named == set(re.findall(r"InstanceProfileName: (\S+)", text))
    assert f"ray-cluster-name: {aws['cluster_name']}\n" in text


def image() -> list[dict[str, str]]:
    """The Dockerfile's instructions."""
    found: list[dict[str, str]] = DockerfileParser(str(CLUSTER / "Dockerfile")).structure
    return [line for line in found if line["instruction"] != "COMMENT"]


def test_the_image_is_pinned_and_made_of_what_is_here() -> None:
    lines = image()
    bases = [line["value"].split()[0] for line in lines if line["instruction"] == "FROM"]
    stages = [line["value"].split()[-1] for line in lines if " AS " in line["value"]]
    assert all(base in stages or re.search(r":[\d.]+-", base) for base in bases)
    assert any("--no-deps -r lock-gpu.txt" in line["value"] for line in lines if line["instruction"] == "RUN")
    ignored = (CLUSTER / "Dockerfile.dockerignore").read_text().splitlines()
    for line in lines:
        if line["instruction"] == "COPY" and not line["value"].startswith("--from"):
            *sources, _ = line["value"].split()
            assert all((REPOSITORY / source).exists() and f"!{source}" in ignored for source in sources)


def test_the_image_keeps_models_on_a_volume() -> None:
    lines = image()
    assert [line["value"] for line in lines if line["instruction"] == "VOLUME"] == ["/cache"]
    assert any("XDG_CACHE_HOME=/cache" in line["value"] for line in lines if line["instruction"] == "ENV")
    assert (
        set(re.findall(r"(\w*CACHE\w*|\w*WORKSPACE\w*)=/cache", " ".join(line["value"] for line in lines))) >= KERNELS
    )
    for pod in list(pods())[:-1]:
        assert {"name": "cache", "mountPath": "/cache"} in pod["containers"][0]["volumeMounts"]


@pytest.mark.ray
def test_the_launcher_itself_accepts_the_aws_cluster(aws: Any) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(aws))
