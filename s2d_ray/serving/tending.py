"""The experiment's own work, which no request waits for."""

import asyncio
import logging

from s2d_ray.experiment.controller import Controller

log = logging.getLogger(__name__)
TEND_SECONDS = 5.0
"""How often what was stored is counted, so that the page need not."""


async def tend_for_ever(controller: Controller) -> None:
    """Have its sums brought up to date again and again."""
    while True:
        await asyncio.sleep(TEND_SECONDS)
        try:
            await asyncio.to_thread(controller.tend)
        except Exception:  # The boundary to the storage: what it cannot do now it does the next time.
            log.warning("the experiment's sums cannot be brought up to date", exc_info=True)
