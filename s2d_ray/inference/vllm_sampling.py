"""What vLLM is told of one call."""

from typing import Any

from s2d_ray.inference.engine import RefusedRequest
from s2d_ray.recipes.answer_format import AnswerFormat
from s2d_ray.recipes.sections import Sampling


def sampling_parameters(sampling: Sampling, n: int, seed: int | None, room: int) -> Any:
    """vLLM's sampling parameters; `room` is the tokens that the context still has. Raises RefusedRequest."""
    from vllm import SamplingParams
    from vllm.exceptions import VLLMClientError
    from vllm.sampling_params import RequestOutputKind

    greedy = sampling.temperature == 0
    try:
        return SamplingParams(
            # vLLM refuses n > 1 with temperature 0: all would be the same.
            n=1 if greedy else n,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            max_tokens=min(sampling.max_tokens, room),
            stop=list(sampling.stop),
            seed=None if greedy else seed,
            output_kind=RequestOutputKind.FINAL_ONLY,
            structured_outputs=_structured_outputs(sampling.answer_format),
        )
    except VLLMClientError as error:
        raise RefusedRequest(str(error)) from error


def _structured_outputs(form: AnswerFormat | None) -> Any:
    """What vLLM holds an answer to. It fills in what it is given, so that no two requests may share it."""
    from vllm.sampling_params import StructuredOutputsParams

    if form is None:
        return None
    choice = None if form.choice is None else list(form.choice)
    return StructuredOutputsParams(json=form.json_schema, choice=choice, regex=form.regex)
