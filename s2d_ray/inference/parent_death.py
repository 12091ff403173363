"""No engine process outlives the actor that owns it, even one that was killed with SIGKILL.

vLLM calls `end_with_parent`, a plugin of its, in each process that it starts; only those below an engine of
this package act on it.
"""

import os

from s2d_ray import signals

MARK = "S2D_ENGINE_OWNER"
"""Environment variable: the process id of the actor that owns the engine."""


def own_engine() -> None:
    """Call in the process that starts an engine: from now on its vLLM processes end with it."""
    os.environ[MARK] = str(os.getpid())


def end_with_parent() -> None:
    """Ask Linux to kill this process when its parent ends; nothing in the owner itself or elsewhere."""
    owner = os.environ.get(MARK)
    if owner is None or owner == str(os.getpid()):
        return
    signals.end_with_parent()
