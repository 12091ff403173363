"""What is kept of requests, their feedback and their shadows. Text is kept only where the recipe says so."""

import json
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from s2d_ray.data.outages import impatient
from s2d_ray.data.records import kind_of
from s2d_ray.experiment.events import FeedbackEvent, Outcome, RequestEvent, ShadowEvent, cost
from s2d_ray.experiment.store import EventStore
from s2d_ray.recipes.serve import Serve
from s2d_ray.serving.context import RequestContext
from s2d_ray.serving.protocol import ServedAnswer

log = logging.getLogger(__name__)
Listener = Callable[[RequestEvent], None]
LossListener = Callable[[str], None]


class RequestRecorder:
    """Writes events to the store, and tells listeners of each request that has ended, without its text.

    `lost` is told why, of each event that cannot be stored.
    """

    def __init__(self, store: EventStore, serve: Serve, listeners: Sequence[Listener], lost: LossListener) -> None:
        self._store, self._serve, self._listeners, self._lost = store, serve, listeners, lost

    def request(self, context: RequestContext, outcome: Outcome, error: str, answer: ServedAnswer | None) -> None:
        """A request has ended."""
        event = RequestEvent(
            request_id=context.request_id,
            time=context.received,
            arm=context.arm,
            version=context.version,
            cluster=context.cluster,
            outcome=outcome,
            seconds=context.seconds,
            error=self._error(error),
            first_token_seconds=context.first_token_seconds,
            rater=context.rater,
        )
        if answer is not None:
            event = replace(
                event,
                prompt_tokens=answer.prompt_tokens,
                completion_tokens=answer.completion_tokens,
                cost=cost(self._serve.prices, answer.prompt_tokens, answer.completion_tokens),
                confidence=answer.confidence,
                escalated=answer.escalated,
            )
        self._add(self._with_text(event, context, answer) if self._serve.store_text else event)
        for listener in self._listeners:
            listener(event)

    def shadow(self, event: ShadowEvent) -> None:
        """A shadow has ended."""
        self._add(replace(event, error=self._error(event.error)))

    def feedback(self, event: FeedbackEvent) -> None:
        """Keep what a user thought of an answer. Raises OSError where the disk takes no more."""
        self._store.add(event)

    @impatient()
    def flush(self) -> None:
        """Move what is stored into Parquet parts, also what writers that died left. Takes milliseconds."""
        with suppress(OSError):  # The journal keeps them until it works again.
            self._store.flush()
            self._store.recover()

    @impatient()
    def close(self) -> None:
        """Store what is left."""
        with suppress(OSError):  # The journal keeps it for the next server.
            self._store.close()

    def _with_text(self, event: RequestEvent, context: RequestContext, answer: ServedAnswer | None) -> RequestEvent:
        messages = [dict(message) for message in context.prompt.messages]
        prompt = json.dumps(messages, ensure_ascii=False)
        return replace(event, prompt=prompt, answer=None if answer is None else answer.text)

    def _error(self, error: str) -> str:
        # A message may quote the prompt.
        return error if self._serve.store_text else kind_of(error)

    def _add(self, event: RequestEvent | ShadowEvent) -> None:
        try:
            self._store.add(event)
        except OSError as error:  # A full disk must not take the answer from the user.
            log.warning("event of request %s is lost: %s", event.request_id, error)
            self._lost(error.strerror or str(error))


def describe(error: BaseException) -> str:
    """The kind of an error, as `kind_of` finds it, and the beginning of what it says."""
    said = (str(error).strip().splitlines() or [""])[0][:300]
    return f"{type(error).__name__}: {said}"
