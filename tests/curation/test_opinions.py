"""Rules that find, without a label, that System 2 followed the opinion in the prompt."""

from collections.abc import Sequence
from itertools import islice
from typing import Any

import pytest

from s2d_ray.curation.opinion_removed import OpinionRemoved
from s2d_ray.curation.registry import load_rules
from s2d_ray.curation.rule import ParsedSamples, Rejected, curate_prompt, parse_samples
from s2d_ray.data.records import Candidates, LabelledPrompt, Prompt, Row, Sample, Step, content_id, user
from s2d_ray.errors import UserError
from s2d_ray.inference.method_runs import run_on_all_forms
from s2d_ray.methods.registry import load_method
from s2d_ray.recipes.recipe import Recipe
from s2d_ray.recipes.sections import Sampling
from s2d_ray.recipes.strict import Named
from s2d_ray.runs.resolved import resolve
from s2d_ray.tasks.geonames import Geonames
from tests.method_runs import engine_that_says

PROMPTS = 60


def followed(item: LabelledPrompt) -> bool:
    """Whether the scripted model falls for the opinion in a prompt: for one in four."""
    return int(content_id(item.prompt.fields["plain"])[:4], 16) % 4 == 0


def named(rules: Sequence[Named | str]) -> list[Named]:
    return [Named(name=rule) if isinstance(rule, str) else rule for rule in rules]


async def kept(rules: Sequence[Named | str], method: str = "s2a", samples: int = 3, **options: Any) -> dict[str, Row]:
    """Id → decision on prompts with a wrong opinion, of a model that knows all but falls for some opinions.

    Where it does, its rewrite repeats the prompt, and its answer is the opinion in what it is asked.
    """
    task = Geonames.model_validate({"opinions": {"biased": 1.0}, "kinds": ["country"], **options})
    items = list(islice(task.items("train", 0), PROMPTS))
    known = {item.prompt.fields["plain"]: item for item in items}
    stated = {item.prompt.fields[field] for item in items for field in ("opinion", "other")}

    def says(turns: list[str]) -> str:
        asked = turns[-1].removeprefix("Rewrite the text as a question without any opinion.\n\nText: ")
        [question] = [question for question in known if question in asked]
        if asked != turns[-1]:
            return asked if followed(known[question]) else question
        said = asked.replace(question, "")
        opinions = (opinion for opinion in sorted(stated, key=len, reverse=True) if opinion in said)
        return next(opinions, known[question].references[0])

    engine, loaded = engine_that_says(says), load_method(Named(name=method, prompts="few_shot"))
    decisions = {}
    for item in items:
        answered = await run_on_all_forms(loaded, task, item.prompt, engine, Sampling(), samples, 0)
        row = await curate_prompt(Candidates(item.prompt, answered), load_rules(named(rules)), task, None)
        decisions[item.prompt.prompt_id] = row | {"item": item}
    return decisions


def planted(decisions: dict[str, Row]) -> int:
    """Kept targets that are the opinion in the prompt."""
    return sum(row["target"] == row["item"].prompt.fields["opinion"] for row in decisions.values())


async def test_a_vote_alone_keeps_the_planted_opinion() -> None:
    decisions = await kept(["majority"])
    assert all(row["status"] == "kept" for row in decisions.values())
    assert planted(decisions) == sum(followed(row["item"]) for row in decisions.values()) > 10


@pytest.mark.parametrize(
    ("rules", "options", "reason"),
    [
        (["opinion_removed", "majority"], {}, "every rewrite still has the opinion"),
        (["consistency"], {"perturbations": ["other"]}, "another answer under other"),
        (["consistency"], {"perturbations": ["plain"]}, "another answer under plain"),
        (["majority", "consistency"], {"perturbations": ["other", "plain"]}, "another answer under other"),
        (["consistency"], {"perturbations": ["other", "plain"], "samples": 1}, "another answer under other"),
        ([Named(name="majority", perturbed=True)], {"perturbations": ["other"], "samples": 1}, "tie between answers"),
    ],
)
async def test_no_planted_opinion_is_kept_by(rules: list[Named | str], options: dict[str, Any], reason: str) -> None:
    decisions = await kept(rules, **options)
    assert planted(decisions) == 0
    for row in decisions.values():
        if followed(row["item"]):
            assert (row["status"], row["reason"]) == ("rejected", reason)
        else:
            assert (row["status"], row["target"]) == ("kept", row["item"].references[0])


async def test_a_vote_of_one_sample_of_each_form_keeps_what_most_forms_agree_on() -> None:
    every = Named(name="majority", perturbed=True)
    decisions = await kept([every], samples=1, perturbations=["other", "plain"])
    for row in decisions.values():
        [right], other = row["item"].references, row["item"].prompt.fields["other"]
        if not followed(row["item"]):
            assert (row["target"], row["vote_share"]) == (right, 1)
        elif other == right:
            assert (row["target"], row["vote_share"]) == (right, pytest.approx(2 / 3)), "outvotes the planted one"
        else:
            assert row["reason"] == "tie between answers"


async def test_a_method_without_a_rewrite_is_left_to_the_next_rule() -> None:
    # As in the control that is distilled from System 1's own votes.
    decisions = await kept(["opinion_removed", "majority"], method="direct")
    assert planted(decisions) == PROMPTS


def sample(rewrite: str, answer: str = "it is a", variant: str = "") -> Sample:
    return Sample(
        answer,
        variant,
        "",
        [Step("rewrite", rewrite, "stop", 1, 0, 1, 0.1), Step("respond", answer, "stop", 1, 0, 1, 0.1)],
    )


class Trivial(Geonames):
    """Reads every text as its own answer."""

    def parse(self, text: str, prompt: Prompt) -> str | None:
        return text or None


async def left(*rewrites: str, opinion: str = "Peru", plain: str = "Where is Lyon?") -> Sequence[str | None] | str:
    """The answers that the rule leaves, or why it rejects; sample n answers n."""
    prompt = Prompt("p", [user(f"It is {opinion}. {plain}")], {"opinion": opinion, "plain": plain})
    given = Candidates(prompt, [sample(text, str(n)) for n, text in enumerate(rewrites)])
    outcome = await OpinionRemoved().decide(parse_samples(given, Trivial()), None, Trivial(), None)
    assert isinstance(outcome, ParsedSamples | Rejected)
    return outcome.reason if isinstance(outcome, Rejected) else outcome.answers


@pytest.mark.parametrize(
    ("rewrite", "opinion", "plain", "removed"),
    [
        ("Where is Lyon?", "Peru", "Where is Lyon?", True),
        ("Where is Lyon? It is Peru.", "Peru", "Where is Lyon?", False),
        ("**peru**: where is Lyon?", "Peru", "Where is Lyon?", False),
        ("Where in the Netherlands is it?", "The Netherlands", "Where is it?", False),
        # Whole words only.
        ("Is Lyon Peruvian?", "Peru", "Where is Lyon?", True),
        ("Where is New York?", "York", "Where is New York?", True),
        ("New York is in York, I think", "York", "Where is New York?", True),
        ("Where is Lyon?", "", "Where is Lyon?", True),
    ],
)
async def test_a_rewrite_still_has_the_opinion_where_it_names_it(
    rewrite: str, opinion: str, plain: str, removed: bool
) -> None:
    answers = await left("Where?", rewrite, opinion=opinion, plain=plain)
    assert answers == ["0", "1" if removed else None]


async def test_a_prompt_is_rejected_where_no_sample_removed_the_opinion() -> None:
    assert await left("Peru?", "It is Peru.") == "every rewrite still has the opinion"
    assert await left("Peru?", "Where?") == [None, "1"]


async def test_each_form_is_searched_for_the_opinion_that_it_states() -> None:
    task = Geonames.model_validate({"perturbations": ["other", "plain"], "opinions": {"biased": 1.0}})
    prompt = next(task.items("train", 0)).prompt
    own, other, plain = (prompt.fields[name] for name in ("opinion", "other", "plain"))
    said = {"": [own, other, plain], "other": [own, other, plain], "plain": [own, other, plain]}
    samples = [sample(text, "France", form) for form, texts in said.items() for text in texts]
    outcome = await OpinionRemoved().decide(parse_samples(Candidates(prompt, samples), task), None, task, None)
    assert isinstance(outcome, ParsedSamples)
    assert {form: [answer is not None for answer in outcome.of(form).answers] for form in said} == {
        "": [False, True, True],
        "other": [True, False, True],
        "plain": [True, True, True],
    }


@pytest.mark.parametrize(
    ("rules", "outcome"),
    [
        (["majority"], "Peru"),
        (["opinion_removed", "majority"], "no majority"),
        (["opinion_removed", Named(name="majority", threshold=0.3)], "France"),
    ],
)
async def test_a_sample_that_followed_the_opinion_has_no_vote(rules: list[Named | str], outcome: str) -> None:
    prompt = Prompt("p", [user("It is Peru. Where is Lyon?")], {"opinion": "Peru", "plain": "Where is Lyon?"})
    samples = [sample("It is Peru.", "Peru"), sample("Where is Lyon?", "France"), sample("Peru?", "Peru")]
    row = await curate_prompt(Candidates(prompt, samples), load_rules(named(rules)), Trivial(), None)
    assert (row["target"] or row["reason"], row["votes"]) == (outcome, ["Peru", "France", "Peru"])


async def test_what_was_voted_stays_in_the_decision_and_the_rule_that_rejects_is_named() -> None:
    decisions = await kept(["opinion_removed", "majority"])
    rows = [row for row in decisions.values() if followed(row["item"])]
    assert {row["rule"] for row in rows} == {"opinion_removed"}
    assert all(row["votes"] == [row["item"].prompt.fields["opinion"]] * 3 for row in rows)
    assert {row["rule"] for row in decisions.values() if row["status"] == "kept"} == {"majority"}


def recipe(task: object, method: object, *rules: str) -> Recipe:
    content = {"name": "mine", "model": "a-model", "task": task, "method": method, "curate": {"rules": rules}}
    return Recipe.model_validate(content)


@pytest.mark.parametrize(
    ("mine", "message"),
    [
        (recipe("geonames", "s2a", "majority", "opinion_removed"), "opinion_removed keeps no target: put one after it"),
        (recipe("gsm8k", "s2a", "opinion_removed", "majority"), "have no field opinion: those of geonames and"),
        (recipe("geonames", "cot", "opinion_removed", "majority"), "the rewrite of method s2a, and cot makes none"),
    ],
)
def test_what_cannot_be_checked_is_refused_before_anything_starts(mine: Recipe, message: str) -> None:
    with pytest.raises(UserError, match=message):
        resolve(mine)


def test_it_works_with_ones_own_method_too() -> None:
    assert resolve(recipe("biased_trivia", f"{__name__}:kept", "opinion_removed", "universal"))
