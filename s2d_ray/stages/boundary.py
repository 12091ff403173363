"""The one boundary at which an error becomes data: a row's."""

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TypeVar

from s2d_ray.inference.engine import EngineDied, EngineError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Failed:
    """In place of what a row would have given."""

    reason: str


async def or_failed(work: Awaitable[T]) -> T | Failed:
    """What work on one row gives; a bad row, or a bug in the user's method, task or rule, is data.

    Raises EngineDied, which is no row's fault.
    """
    try:
        return await work
    except EngineDied:
        raise
    except EngineError as error:
        return Failed(str(error))
    except Exception as error:
        return Failed(f"{type(error).__name__}: {error}")
