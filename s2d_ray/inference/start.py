"""Starting the engine that a recipe asks for."""

from pathlib import Path

from s2d_ray.data.copies import local_copy
from s2d_ray.data.records import user
from s2d_ray.inference.engine import RunningEngine
from s2d_ray.inference.scripted import ScriptedEngine
from s2d_ray.inference.timed import TimedEngine
from s2d_ray.recipes.chat import DEFAULT_CHAT, Chat
from s2d_ray.recipes.sections import Engine, Sampling


async def start_engine(
    config: Engine, model: Path, trust_remote_code: bool, adapter: Path | None = None, chat: Chat = DEFAULT_CHAT
) -> RunningEngine:
    """A running engine for the model, past its first call, which compiles what later ones reuse.

    From then on its calls are limited to `call_timeout`. An `adapter` of the model can be asked besides.
    """
    return TimedEngine(await _start(config, model, trust_remote_code, adapter, chat), config.call_timeout)


async def _start(
    config: Engine, model: Path, trust_remote_code: bool, adapter: Path | None, chat: Chat
) -> RunningEngine:
    if config.kind == "scripted":
        return ScriptedEngine(config, model, chat)
    # vLLM is imported where it is used: it takes seconds, and needs its settings in the environment first.
    from s2d_ray.inference.vllm_engine import VllmEngine

    engine = VllmEngine(config, local_copy(model), trust_remote_code, adapter and local_copy(adapter), chat)
    await engine.complete([user("Hello")], Sampling(temperature=0, top_p=1, max_tokens=2), 1, seed=0)
    return engine
