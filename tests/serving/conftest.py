"""Ray as `s2d serve` starts it."""

import atexit
from contextlib import ExitStack

from s2d_ray.recipes.serve import Serve
from s2d_ray.serving.ray_settings import set_for_ray

# Here, since the workers of every later Ray inherit it, and a module may start one before its first test.
held = ExitStack()
held.enter_context(set_for_ray(Serve()))
atexit.register(held.close)
