"""What `s2d serve` does once a run is resolved, over the scripted engine: `python -m tests.serving.server FOLDER JSON`.

The JSON is the recipe's section `serve`.
"""

import json
import sys
from pathlib import Path

from s2d_ray.data.folders import RunFolders
from s2d_ray.serving.ray_settings import set_for_ray
from tests.serving.gateways import served_recipe

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    recipe = served_recipe(serve={"weights": {"student": 1}} | json.loads(sys.argv[2]))
    with set_for_ray(recipe.serve):
        import os

        from s2d_ray.serving.auth import load_access
        from s2d_ray.serving.deployments import Served
        from s2d_ray.serving.service import serve_until_stopped

        serve_until_stopped(Served(recipe, RunFolders(folder), folder, folder, load_access(recipe.serve, os.environ)))
