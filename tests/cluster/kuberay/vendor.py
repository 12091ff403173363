"""Remake crds.json: the v1 schemas of KubeRay's custom resources, with what they repeat written once.

python tests/cluster/kuberay/vendor.py FOLDER_OF_KUBERAY_CRDS
"""

import json
import sys
from pathlib import Path
from typing import Any

import yaml

KINDS = ("RayCluster", "RayJob", "RayService")
HERE = Path(__file__).parent


def schema(folder: Path, kind: str) -> dict[str, Any]:
    """What the API server checks objects of this kind against."""
    definition = yaml.safe_load((folder / f"ray.io_{kind.lower()}s.yaml").read_text())
    [version] = [version for version in definition["spec"]["versions"] if version["name"] == "v1"]
    found: dict[str, Any] = version["schema"]["openAPIV3Schema"]
    return found


def shared(tree: Any, name: str, part: Any) -> Any:
    """`tree` with a reference wherever it has `part`."""
    if tree == part:
        return {"$ref": f"#/$defs/{name}"}
    if isinstance(tree, dict):
        return {key: shared(value, name, part) for key, value in tree.items()}
    return [shared(value, name, part) for value in tree] if isinstance(tree, list) else tree


def main(folder: Path) -> None:
    """Write crds.json."""
    kinds: Any = {kind: schema(folder, kind) for kind in KINDS}
    cluster = kinds["RayCluster"]["properties"]["spec"]
    pod = cluster["properties"]["headGroupSpec"]["properties"]["template"]
    definitions = {"RayClusterSpec": shared(cluster, "PodTemplate", pod), "PodTemplate": pod}
    kinds = shared(shared(kinds, "RayClusterSpec", cluster), "PodTemplate", pod)
    (HERE / "crds.json").write_text(json.dumps({"$defs": definitions, **kinds}, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
