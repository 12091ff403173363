"""cluster/: each file against the schema of what reads it, and against this repository."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from dockerfile_parse import DockerfileParser
from typer.testing import CliRunner

from s2d_ray.cli import app
from s2d_ray.doctor import read_lock
from s2d_ray.planning.advice import advice
from s2d_ray.planning.disk import evaluating_disk, storage
from s2d_ray.planning.fit import stages_of
from s2d_ray.planning.shapes import shape_of
from s2d_ray.planning.sizing import GIB, Node
from s2d_ray.recipes.load import load_recipe, shipped_recipes

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
        claims = {v["name"]: v["persistentVolumeClaim"]["claimName"] for v in pod["volumes"] if "emptyDir" not in v}
        assert mount in claims
        assert set(claims.values()) <= stored


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
    groups = cluster()["workerGroupSpecs"]
    for group in groups:
        assert group["minReplicas"] == group["replicas"] == 0
        tolerated = {toleration["key"] for toleration in group["template"]["spec"]["tolerations"]}
        assert tolerated >= SPOT_TAINTS
    gpus = {group["groupName"]: limits_of(group).get("nvidia.com/gpu") for group in groups}
    assert gpus == {"gpu": "4", "gpu8": "8", "cpu": None}
    # One kind of GPU at a time, since a training takes single ones wherever they are.
    assert {group["groupName"] for group in groups if group["maxReplicas"]} == {"gpu", "cpu"}
    # The autoscaler's second version replaces pods itself.
    assert {pod["restartPolicy"] for pod in pods()} == {"Never"}


def limits_of(group: Any) -> dict[str, str]:
    limits: dict[str, str] = group["template"]["spec"]["containers"][0]["resources"]["limits"]
    return limits


def test_large_nodes_keep_models_on_their_own_disks() -> None:
    [large] = [group for group in cluster()["workerGroupSpecs"] if group["groupName"] == "gpu8"]
    volumes = {volume["name"]: volume for volume in large["template"]["spec"]["volumes"]}
    cache = gib(volumes["cache"]["emptyDir"]["sizeLimit"])
    assert cache < gib(limits_of(large)["ephemeral-storage"])
    environment = large["template"]["spec"]["containers"][0]["env"]
    assert cache > next(float(variable["value"]) for variable in environment if variable["name"] == "S2D_CACHE_GIB")


@pytest.mark.parametrize("name", [name for name in shipped_recipes() if name.endswith("-paper")])
def test_volumes_and_large_nodes_hold_what_the_plan_of_a_large_recipe_says(name: str) -> None:
    recipe = load_recipe(name)
    shape = shape_of(recipe, None)
    [large] = [group for group in cluster()["workerGroupSpecs"] if group["groupName"] == "gpu8"]
    limits = limits_of(large)
    node = Node(gpus=8, memory_gib=gib(limits["memory"]), disk_gib=gib(limits["ephemeral-storage"]))
    assert advice(recipe, shape, node).lines == []
    claims = yaml.safe_load_all((KUBERAY / "storage.yaml").read_text())
    asked = {c["metadata"]["name"]: gib(c["spec"]["resources"]["requests"]["storage"]) for c in claims}
    assert asked["s2d-results"] > storage(recipe, shape) / GIB
    assert asked["s2d-cache"] > evaluating_disk(recipe, shape) / GIB


def test_the_job_fits_the_pods_that_it_gets() -> None:
    recipe = load_recipe(load(KUBERAY / "rayjob.yaml")["spec"]["entrypoint"].split()[2])
    pods_of = {group["groupName"]: group for group in cluster()["workerGroupSpecs"]}["gpu"]
    limits = limits_of(pods_of)
    node = Node(gpus=int(limits["nvidia.com/gpu"]), memory_gib=gib(limits["memory"]))
    assert advice(recipe, shape_of(recipe, None), node).lines == []
    asked = max(stage.nodes for stage in stages_of(recipe, shape_of(recipe, None), node))
    assert asked == pods_of["maxReplicas"]


LARGE = (CLUSTER / "large-models.md").read_text()


@pytest.mark.parametrize(
    "command",
    [*re.findall(r"^s2d (plan s2a-trivia-paper[^#\n]*)", LARGE, re.MULTILINE), "plan s2a-geonames $SETTINGS"],
)
def test_the_page_of_large_models_shows_what_the_command_prints(command: str) -> None:
    [settings] = re.findall(r'SETTINGS="(.*?)"', LARGE, re.DOTALL)
    shown = CliRunner().invoke(app, command.replace("$SETTINGS", settings).split()).stdout
    assert len(shown.splitlines()) > 5
    assert shown in LARGE


def test_the_readme_shows_what_the_command_prints() -> None:
    readme = (CLUSTER / "README.md").read_text()
    [(command, shown)] = re.findall(r"\$ s2d (plan s2a-trivia-paper.*?[^\\])\n(.*?)\n```", readme, re.DOTALL)
    printed = CliRunner().invoke(app, command.replace("\\", "").split()).stdout
    assert printed.startswith(shown)
    assert "the smallest change" in shown


def gib(quantity: str) -> float:
    number, unit = quantity[:-2], quantity[-2:]
    return float(number) * {"Gi": 1, "Ti": 1024}[unit]


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
    gpus = {name: kind["resources"].get("GPU") for name, kind in types.items()}
    assert gpus == {"gpu": 4, "gpu8": 8, "cpu": None}
    # One kind of GPU at a time, since a training takes single ones wherever they are.
    assert {name for name, kind in types.items() if kind["max_workers"]} == {"gpu", "cpu"}
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
    assert all(base in stages or re.search(r":[\d.]+-\S+@sha256:[0-9a-f]{64}$", base) for base in bases)
    assert any(
        "--require-hashes --only-binary=:all: -r lock-gpu.txt" in line["value"]
        for line in lines
        if line["instruction"] == "RUN"
    )
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


def test_machines_of_aws_keep_caches_and_spilled_objects_on_their_own_disks(aws: Any, tmp_path: Path) -> None:
    """The setup command as it is, on a machine without such disks; and the environment that Ray starts in."""
    home, root = tmp_path / "home", tmp_path / "var"
    home.mkdir()
    setup = next(command for command in aws["setup_commands"] if "~/local" in command)
    here = setup.replace("/var/local", str(root)).replace("sudo install -d -o ubuntu", "mkdir -p")
    lines = f"{here}; . {CLUSTER}/aws-env.sh; env"
    ran = subprocess.run(
        ["bash", "-euc", lines],
        env={"HOME": str(home), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    )
    found = dict(line.split("=", 1) for line in ran.stdout.splitlines() if "=" in line)
    assert Path(found["TMPDIR"]).is_dir()
    of_the_image = set(re.findall(r"(\w+)=/cache", " ".join(line["value"] for line in image())))
    for name in (*of_the_image, "S2D_CACHE", "HF_HOME", "VLLM_CACHE_ROOT", "TMPDIR"):
        assert Path(found[name]).resolve().is_relative_to(root / "s2d")
    for commands in (aws["head_start_ray_commands"], aws["worker_start_ray_commands"]):
        assert ". ~/s2d_ray/cluster/aws-env.sh" in commands[-1]
        [spill] = re.findall(r"--object-spilling-directory=(\S+)", commands[-1])
        assert Path(spill.replace("$HOME", str(home))).is_dir()


def test_the_hubs_token_can_be_copied_to_where_its_client_reads_it() -> None:
    text = (CLUSTER / "aws.yaml").read_text()
    [line] = [line for line in text.splitlines() if ".huggingface_token" in line]
    [[target, source]] = yaml.safe_load(line.replace("# ", "")).items()
    assert source == "~/.cache/huggingface/token"
    assert f"HF_TOKEN_PATH=$HOME/{target.removeprefix('/home/ubuntu/')}" in (CLUSTER / "aws-env.sh").read_text()


def test_the_launcher_starts_the_autoscaler_of_the_second_version() -> None:
    """A run reads from its state whether a node type can hold what it asks for."""
    spec = find_spec("ray")
    assert spec is not None and spec.origin is not None
    launcher = (Path(spec.origin).parent / "autoscaler" / "_private" / "commands.py").read_text()
    assert 'os.getenv("RAY_UP_enable_autoscaler_v2", "1") == "1"' in launcher
    assert '"RAY_enable_autoscaler_v2": "1"' in launcher


@pytest.mark.ray
def test_the_launcher_itself_accepts_the_aws_cluster(aws: Any) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(aws))
