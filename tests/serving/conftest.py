"""Ray as `s2d serve` starts it."""

import os

from s2d_ray.serving.settings import SERVING_SETTINGS

# Here, since the workers of every later Ray inherit it, and a module may start one before its first test.
for name, value in SERVING_SETTINGS.items():
    os.environ.setdefault(name, value)
