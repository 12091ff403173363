"""What users think of answers: taken once for each, from whoever asked, within a while."""

import time
from collections import OrderedDict

from s2d_ray.experiment.events import Feedback, FeedbackEvent
from s2d_ray.experiment.request_ids import Asker, RequestIds
from s2d_ray.recipes.serve import Serve
from s2d_ray.serving.protocol import BadRequest
from s2d_ray.serving.recorder import RequestRecorder

REMEMBERED = 100_000
"""Requests whose feedback this gateway knows, the latest ones. Of those that it forgot, and of what another gateway
has taken, the first feedback counts."""


class FeedbackTaker:
    """Takes feedback at one gateway."""

    def __init__(self, serve: Serve, request_ids: RequestIds, recorder: RequestRecorder) -> None:
        self._seconds = 3600 * serve.feedback_hours
        self._request_ids, self._recorder = request_ids, recorder
        self._taken: OrderedDict[str, None] = OrderedDict()

    def take(self, feedback: Feedback, asker: Asker) -> None:
        """Keep it. Raises UserError where it is not to be counted, and OSError where the disk takes no more."""
        name, now = feedback.request_id, time.time()
        asked = self._request_ids.read(name, asker)
        if now - asked.time > self._seconds:
            raise BadRequest(f"answers may be rated for {self._seconds / 3600:g} hours", "request_id")
        if name in self._taken:
            raise BadRequest("this answer has been rated", "request_id")
        self._recorder.feedback(FeedbackEvent(name, now, feedback.rating, asked.arm, asked.version, asked.rater))
        self._taken[name] = None
        if len(self._taken) > REMEMBERED:
            self._taken.popitem(last=False)
