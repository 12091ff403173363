"""The answer of one sample: the one way in which curation, evaluation, cascade and serving read what a method made."""

from s2d_ray.data.records import Prompt, Sample, text_given
from s2d_ray.tasks.task import Task


def parse_sample(sample: Sample, prompt: Prompt, task: Task) -> str | None:
    """The answer of a sample; None where it ended in an error, or the token limit cut it before its answer was over."""
    if sample.error:
        return None
    answer = task.parse_cut(sample.text, prompt) if was_cut(sample) else task.parse(sample.text, prompt)
    return None if answer is None else text_given(answer, "the task's parse")


def ran_out(sample: Sample) -> bool:
    """Whether the last call of a sample ran into the token limit, whatever the method made of it."""
    return bool(sample.steps) and sample.steps[-1].finish_reason == "length"


def was_cut(sample: Sample) -> bool:
    """Whether the token limit cut the text of a sample.

    That of a last call that ran into the limit was, unless the method made its text of an earlier part of that call,
    as chain-of-thought does of a final answer that is over. One letter at the end of a call is no part of it.
    """
    if not ran_out(sample):
        return False
    whole, text = sample.steps[-1].text.strip(), sample.text.strip()
    return text == whole or (len(text) > 1 and whole.endswith(text))
