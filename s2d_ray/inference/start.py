"""Starting the engine that a recipe asks for."""

from pathlib import Path

from s2d_ray.config import Engine
from s2d_ray.inference.engine import RunningEngine
from s2d_ray.inference.scripted import ScriptedEngine


def start_engine(config: Engine, model: Path, trust_remote_code: bool) -> RunningEngine:
    """A running engine for the model. Call inside a running event loop."""
    if config.kind == "scripted":
        return ScriptedEngine(config)
    # vLLM is imported where it is used: it takes seconds, and needs its settings in the environment first.
    from s2d_ray.inference.vllm_engine import VllmEngine

    return VllmEngine(config, model, trust_remote_code)
