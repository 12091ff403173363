"""A request's way: assigned to an arm, admitted, answered. Knows neither HTTP nor Ray."""

import logging
import time
from collections.abc import Mapping
from random import Random

from s2d_ray.arms import CoreArm
from s2d_ray.errors import UserError
from s2d_ray.experiment.assignment import arm_at, hash_client, hash_user
from s2d_ray.experiment.events import Outcome
from s2d_ray.experiment.request_ids import Asked, Asker, RequestIds
from s2d_ray.inference.engine import EngineDied, EngineError, PromptTooLong, RefusedRequest
from s2d_ray.recipes.recipe import Recipe
from s2d_ray.runs.answer_formats import refuse_mixed
from s2d_ray.serving.admission import Admission, Refused
from s2d_ray.serving.context import RequestContext
from s2d_ray.serving.experiment_sync import ExperimentSync
from s2d_ray.serving.protocol import MODELS, BadRequest, CompletionRequest, ServedAnswer, known_model
from s2d_ray.serving.recorder import RequestRecorder, describe
from s2d_ray.serving.responders import NoAnswer, OnText, Responders
from s2d_ray.serving.shadows import ShadowRunner
from s2d_ray.tasks.task import Task

log = logging.getLogger(__name__)


class Failed(Exception):
    """The server has no answer to a request that was in order."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Router:
    """Has each request answered by its arm. Lives in one event loop."""

    def __init__(
        self,
        recipe: Recipe,
        task: Task,
        responders: Responders,
        admission: Mapping[CoreArm, Admission],
        experiment: ExperimentSync,
        recorder: RequestRecorder,
        shadows: ShadowRunner,
        request_ids: RequestIds,
    ) -> None:
        self._recipe, self._task, self._request_ids = recipe, task, request_ids
        self._responders, self._admission = responders, admission
        self._experiment, self._recorder, self._shadows = experiment, recorder, shadows
        self._random = Random()

    def assign(self, request: CompletionRequest, asker: Asker) -> RequestContext:
        """Which arm answers what how. Raises UserError where the request cannot be answered by any."""
        serve, state, named = self._recipe.serve, self._experiment.state, MODELS[known_model(request.model)]
        if request.answer_format is not None and (named in (None, "teacher") or (named == "student" and serve.cascade)):
            # Whichever arm the experiment would choose: else it compared answers of a form with others.
            refuse_mixed(self._recipe.method, "an answer of a given form")
        hashed, received = hash_user(serve.salt, asker.user), time.time()
        arm, version = named or arm_at(hashed.point, state.weights), None if named else state.version
        rater = hashed.cluster if serve.trust_clients else hash_client(serve.salt, asker.client)
        return RequestContext(
            request=request,
            prompt=request.prompt(self._task),
            sampling=request.sampling(self._recipe.evaluate.sampling, serve.max_tokens),
            seed=self._random.getrandbits(31) if request.seed is None else request.seed,
            arm=arm,
            version=version,
            cluster=hashed.cluster,
            rater=rater,
            request_id=self._request_ids.make(Asked(int(received), arm, version, rater), asker),
            received=received,
        )

    async def answer(self, context: RequestContext, on_text: OnText | None = None) -> ServedAnswer:
        """The arm's answer, stored before it is returned; `on_text` gets its text as it comes, where the arm streams.

        Raises Refused past a limit, BadRequest for what the model or its engine does not take, and Failed otherwise.
        """
        outcome: Outcome = "cancelled"
        answer, error = None, ""
        try:
            answer = await self._answer(context, on_text)
            outcome = "answered"
        except (Refused, UserError) as refused:
            outcome, error = "refused", str(refused)
            raise
        except Failed as failed:
            outcome, error = "failed", str(failed)
            raise
        finally:
            self._recorder.request(context, outcome, error, answer)
        self._shadows.consider(context, answer)
        return answer

    async def _answer(self, context: RequestContext, on_text: OnText | None) -> ServedAnswer:
        listener = None if on_text is None else _timed(context, on_text)
        try:
            async with self._admission[context.arm].admit():
                answer = await self._responders.answer(
                    context.arm, context.prompt, context.sampling, context.seed, listener
                )
            if on_text is not None:
                # An arm that does not stream sends its text once it is whole.
                context.text_has_come()
            return answer
        except TimeoutError as error:
            raise Failed(str(error), 504) from error
        except EngineDied as error:
            raise Failed(f"the engine is gone: {error}", 503) from error
        except RefusedRequest as error:
            code = "context_length_exceeded" if isinstance(error, PromptTooLong) else None
            raise BadRequest(" ".join(str(error).split()), context.request.asked_by, code) from error
        except NoAnswer as error:
            most = context.request.most_tokens
            if error.cut and most is not None and most < self._recipe.evaluate.sampling.max_tokens:
                said = f"max_tokens {most} leaves no room for an answer ({error}): send more, or leave it out"
                raise BadRequest(said, "max_tokens") from error
            raise Failed(describe(error), 500) from error
        except EngineError as error:
            raise Failed(str(error), 500) from error
        except (Refused, UserError):
            raise
        except Exception as error:  # The boundary to models and methods: a lost replica, a bug in a user's method.
            kind, text = type(error).__name__, self._recipe.serve.store_text
            log.error("request %s of %s failed: %s", context.request_id, context.arm, kind, exc_info=text)
            raise Failed(describe(error), 500) from error


def _timed(context: RequestContext, on_text: OnText) -> OnText:
    """`on_text`, with the time of the first text noted."""

    def heard(text: str) -> None:
        context.text_has_come()
        on_text(text)

    return heard
