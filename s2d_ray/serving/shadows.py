"""Shadows: another arm answers a request too, in the background, so that the two answers can be compared."""

import time
from collections.abc import Mapping
from random import Random

from s2d_ray.arms import CoreArm
from s2d_ray.experiment.events import ShadowEvent
from s2d_ray.recipes.serve import Serve
from s2d_ray.serving.admission import Admission
from s2d_ray.serving.background import BackgroundWork
from s2d_ray.serving.context import RequestContext
from s2d_ray.serving.protocol import ServedAnswer
from s2d_ray.serving.recorder import RequestRecorder, describe
from s2d_ray.serving.responders import Responders

COMPARED_WITH: Mapping[CoreArm, CoreArm] = {"student": "teacher", "teacher": "student"}


class ShadowRunner:
    """Asks shadows where they are due and nobody has to wait for it."""

    def __init__(
        self,
        serve: Serve,
        responders: Responders,
        admission: Mapping[CoreArm, Admission],
        recorder: RequestRecorder,
        background: BackgroundWork,
    ) -> None:
        self._serve, self._responders, self._admission = serve, responders, admission
        self._recorder, self._background = recorder, background
        self._running = 0
        self._random = Random()

    def consider(self, context: RequestContext, answer: ServedAnswer) -> None:
        """A request was answered: start its shadow, if it is to have one."""
        shadow = COMPARED_WITH.get(context.arm)
        due = context.version is not None and self._random.random() < self._serve.shadow_share
        if shadow is None or not due or self._running >= self._serve.shadow_concurrent:
            return
        if self._admission[shadow].idle:
            self._background.start(self._run(context, shadow, answer))

    async def _run(self, context: RequestContext, shadow: CoreArm, answer: ServedAnswer) -> None:
        start, agreement, tokens, error = time.monotonic(), None, 0, ""
        self._running += 1
        try:
            try:
                async with self._admission[shadow].admit():
                    other = await self._responders.answer(shadow, context.prompt, context.sampling, context.seed)
            finally:
                seconds = time.monotonic() - start
            tokens = other.completion_tokens
            agreement = await self._compare(context, {context.arm: answer, shadow: other})
        except Exception as failure:  # The boundary to models and judges: whatever happens to a shadow is data.
            error = describe(failure)
        finally:
            self._running -= 1
        about = context.request_id, context.received, context.arm, shadow, context.cluster
        self._recorder.shadow(ShadowEvent(*about, agreement, seconds, tokens, error))

    async def _compare(self, context: RequestContext, answers: Mapping[CoreArm, ServedAnswer]) -> float:
        # A judge is the base model.
        async with self._admission["base"].admit():
            both = answers["student"], answers["teacher"]
            return await self._responders.agreement(context.prompt, *both, context.seed)
