"""Where several answers are the most frequent, evaluation and the cascade take the earliest of them."""

from dataclasses import asdict

from hypothesis import given
from hypothesis import strategies as st

from s2d_ray.data.records import LabelledPrompt, Prompt, Sample, labelled_to_row, user
from s2d_ray.evaluation.cascade import confidence_of, majority_first
from s2d_ray.evaluation.metrics import answer_of, of_first
from s2d_ray.recipes.serve import Cascade
from tests.curation.parsed_samples import Words

# Of `?` no answer can be read.
TEXTS = st.lists(st.sampled_from(["it is a", "it is A", "it is b", "it is B", "it is c", "?"]), max_size=9)
PROMPT = Prompt("p", [user("Which?")])
TASK = Words()


def earliest(texts: list[str]) -> int | None:
    """The place of the first of the most frequent answers, by counting each."""
    keys = [text.casefold() for text in texts]
    given = [key for key in keys if key != "?"]
    return keys.index(max(given, key=given.count)) if given else None


@given(TEXTS, st.integers(1, 9))
def test_an_arms_answer_is_the_earliest_of_equals_of_all_and_of_the_first_samples(texts: list[str], k: int) -> None:
    samples = [asdict(Sample(text)) for text in texts]
    row = labelled_to_row(LabelledPrompt(PROMPT, [], "all")) | {"arm": "system2", "samples": samples, "error": ""}
    answer = answer_of(row, TASK)
    for found, counted in ((answer, texts), (of_first(answer, k, TASK), texts[:k])):
        place = earliest(counted)
        assert found.answer == (None if place is None else TASK.parse(counted[place], PROMPT))


@given(TEXTS)
def test_a_cascade_answers_with_the_earliest_of_equals_and_is_as_sure_as_its_share(texts: list[str]) -> None:
    samples = [Sample(text) for text in texts]
    place = earliest(texts)
    moved = samples if place is None else [samples[place], *samples[:place], *samples[place + 1 :]]
    assert list(map(id, majority_first(TASK, PROMPT, samples))) == list(map(id, moved))
    confidence = confidence_of(Cascade(confidence="votes", samples=2), TASK, PROMPT, samples)
    same = [text for text in texts if place is not None and text.casefold() == texts[place].casefold()]
    assert confidence == (len(same) / len(texts) if place is not None else None)
