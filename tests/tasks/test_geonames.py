"""Questions over GeoNames: nothing of a test city in training, opinions as labelled, answers read off texts."""

import re
import unicodedata
from collections import Counter
from functools import cache
from typing import Any

import pytest

from s2d_ray.answers.names import KnownNames
from s2d_ray.data.records import LabelledPrompt, Prompt, user
from s2d_ray.errors import UserError
from s2d_ray.recipes.strict import Named
from s2d_ray.tasks.geonames import QUESTIONS, TEST, Geonames, Kind
from s2d_ray.tasks.opinions import TRAINING, Wording
from s2d_ray.tasks.registry import load_task
from s2d_ray.tasks.task import Split, training_prompts

WORDINGS: dict[Split, Wording] = {"train": TRAINING, "test": TEST}
SUBJECT = re.compile("|".join(re.escape(q).replace(re.escape("{subject}"), "(.+?)") for q in QUESTIONS.values()))


@cache
def items(split: Split, seed: int = 0) -> list[LabelledPrompt]:
    return list(Geonames().items(split, seed))


def plain(text: str) -> str:
    """Without case and accents, so that one city is one name however it is written."""
    folded = unicodedata.normalize("NFKD", text.casefold())
    return "".join(c for c in folded if not unicodedata.combining(c)).strip()


def subject(item: LabelledPrompt) -> str:
    match = SUBJECT.search(item.prompt.text)
    assert match is not None
    return next(name for name in match.groups() if name)


def opinion(item: LabelledPrompt) -> str:
    """What the prompt says beside its question."""
    return SUBJECT.sub("", item.prompt.text).strip()


@cache
def known(kind: str) -> KnownNames:
    """The answers to every question of a kind."""
    every = Geonames.model_validate({"opinions": {"plain": 1}})
    answers = {i.references[0] for split in ("train", "test") for i in every.items(split, 0) if i.group == kind}
    return KnownNames({answer: answer for answer in answers})


def stated_in(item: LabelledPrompt) -> str | None:
    """The answer that the opinion names, believed or doubted."""
    return next(iter(known(item.group).found(opinion(item))), None)


def city(item: LabelledPrompt) -> str:
    """The city that an item is about: the answer where a capital is asked for."""
    return plain(item.references[0] if item.group == "capital" else subject(item))


def asked(kind: Kind) -> Prompt:
    return Prompt("id", [user("?")], {"kind": kind})


@pytest.mark.parametrize("seed", [0, 1])
def test_no_test_city_is_asked_about_in_training_in_any_kind(seed: int) -> None:
    train, test = ({city(item) for item in items(split, seed)} for split in ("train", "test"))
    assert len(test) > 100
    assert train & test == set()


@pytest.mark.parametrize("seed", [0, 1])
def test_no_opinion_in_training_names_a_test_city(seed: int) -> None:
    test = {city(item) for item in items("test", seed)}
    capitals = [item for item in items("train", seed) if item.group == "capital" and opinion(item)]
    stated = [item.prompt.fields[field] for item in capitals for field in ("opinion", "other")]
    assert len(stated) > 60
    assert [name for name in stated if plain(name) in test] == []


def test_the_smallest_set_has_every_subset_too() -> None:
    smallest = Geonames.model_validate({"cities": 20, "test_cities": 1})
    assert {item.subset for item in smallest.items("test", 0)} == {"biased", "doubt", "right", "plain"}
    assert len(list(smallest.items("train", 0))) > 100


def test_all_kinds_and_subsets_are_in_both_splits() -> None:
    every = {(kind, subset) for kind in QUESTIONS for subset in ("biased", "doubt", "right", "plain")}
    assert len(every) >= 8
    for split in ("train", "test"):
        assert {(item.group, item.subset) for item in items(split)} == every
        assert all(item.prompt.fields["kind"] == item.group for item in items(split))


def test_every_test_question_is_asked_once_in_every_subset() -> None:
    counts = Counter((item.group, subject(item)) for item in items("test"))
    assert set(counts.values()) == {4}
    assert len({(item.group, subject(item), item.subset) for item in items("test")}) == len(items("test"))


def test_training_subsets_come_in_the_shares_asked_for() -> None:
    shares = Counter(item.subset for item in items("train"))
    for subset, share in {"biased": 0.75, "doubt": 0.05, "right": 0.05, "plain": 0.15}.items():
        assert shares[subset] / len(items("train")) == pytest.approx(share, abs=0.03)
    only = Geonames.model_validate({"opinions": {"right": 1.0}})
    assert {item.subset for item in only.items("train", 0)} == {"right"}


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_opinion_is_what_the_subset_says(split: Split) -> None:
    seen: Counter[str] = Counter()
    for item in items(split):
        said, [answer] = opinion(item), item.references
        named = re.search(rf"\b{re.escape(answer.strip())}\b", said) is not None
        if item.subset == "plain":
            assert said == ""
        else:
            wording, stated = WORDINGS[split], item.prompt.fields["opinion"]
            ways = wording.doubts if item.subset == "doubt" else wording.beliefs
            assert said in {way.format(answer=stated) for way in ways}
            # The wrong opinion is another answer of the same kind; the others are of the right answer.
            assert named is (item.subset != "biased"), item
            assert (stated == answer) is (item.subset != "biased"), item
            assert Geonames().parse(stated, item.prompt) == stated
        seen[item.subset] += 1
    assert set(seen) == {"biased", "doubt", "right", "plain"}


@pytest.mark.parametrize("split", ["train", "test"])
def test_opinions_stand_before_and_after_the_question_in_several_wordings(split: Split) -> None:
    biased = [item for item in items(split) if item.subset == "biased"]
    before = sum(not SUBJECT.match(item.prompt.text) for item in biased)
    assert 0.4 < before / len(biased) < 0.6
    assert len({opinion(item).replace(item.prompt.fields["opinion"], "…") for item in biased}) == 4


def test_ids_are_unique_and_those_of_the_text() -> None:
    ids = [item.prompt.prompt_id for split in ("train", "test") for item in items(split)]
    assert len(set(ids)) == len(ids)


def test_the_same_seed_gives_the_same_prompts_and_another_seed_others() -> None:
    assert list(Geonames().items("train", 0)) == items("train", 0)
    assert list(Geonames().items("test", 0)) == items("test", 0)
    assert {city(item) for item in items("test", 0)} != {city(item) for item in items("test", 1)}
    assert {item.prompt.text for item in items("train", 0)} != {item.prompt.text for item in items("train", 1)}


def test_stages_before_evaluation_see_the_training_prompts_and_no_label() -> None:
    seen = list(training_prompts(Geonames(), 0))
    assert seen == [item.prompt for item in items("train", 0)]
    assert not any(hasattr(prompt, "references") for prompt in seen)


def test_kinds_that_are_not_asked_for_are_left_out_and_change_no_other() -> None:
    only = Geonames.model_validate({"kinds": ["capital"]})
    assert list(only.items("test", 0)) == [item for item in items("test", 0) if item.group == "capital"]


@pytest.mark.parametrize(
    "options",
    [
        {"cities": 19},
        {"test_cities": 0},
        {"kinds": ["river"]},
        {"opinions": {"loud": 1.0}},
        {"opinions": {}},
        {"opinions": {"biased": 0.0}},
        {"opinions": {"biased": -1.0, "plain": 2.0}},
        {"kinds": []},
        {"cities": 20, "test_cities": 5000},
        {"cities": 20, "test_cities": 20},
    ],
)
def test_options_that_leave_nothing_to_ask_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        task = load_task(Named.model_validate({"name": "geonames"} | options))
        list(task.items("train", 0))


@pytest.mark.parametrize("split", ["train", "test"])
def test_every_reference_is_read_as_itself_in_a_sentence(split: Split) -> None:
    task = Geonames()
    for item in items(split):
        [answer] = item.references
        for text in (answer, f"It is {answer}.", f"**{answer.upper()}**\n", f'"{answer.lower()}", I would say'):
            assert task.correct(task.parse(text, item.prompt), item.references), (answer, text)


@pytest.mark.parametrize(
    ("kind", "text", "answer"),
    [
        ("country", "The city of Lyon is in France.", "France"),
        ("country", "Lyon is a city in the south-east of France, close to Switzerland.", "France"),
        ("country", "**Nigeria**", "Nigeria"),
        ("country", "Lagos is in Nigeria, not in Niger.", "Nigeria"),
        ("country", "The USA.", "United States"),
        ("country", "the United States of America", "United States"),
        ("country", "Leeds is in England.", "United Kingdom"),
        ("country", "It's in the UK", "United Kingdom"),
        ("country", "The answer is the Czech Republic.", "Czechia"),
        ("country", "People's Republic of China", "China"),
        ("country", "People\u2019s Republic of China", "China"),
        ("country", "Kinshasa, Democratic Republic of the Congo", "Democratic Republic of the Congo"),
        ("country", "Brazzaville, Republic of the Congo", "Republic of the Congo"),
        ("country", "Port Moresby is in Papua New Guinea", "Papua New Guinea"),
        ("country", "South Korea, officially the Republic of Korea", "South Korea"),
        ("country", "Türkiye", "Turkey"),
        ("country", "Turkiye", "Turkey"),
        ("country", "Côte d'Ivoire", "Ivory Coast"),
        ("country", "Curaçao", "Curacao"),
        ("country", "the Netherlands", "The Netherlands"),
        ("country", "Netherlands", "The Netherlands"),
        ("country", "Rotterdam is in Holland.", "The Netherlands"),
        ("country", "I'm sorry, I can't answer that.", None),
        ("country", "", None),
        ("country", "Francesville", None),
        ("country", "an old Roman city", None),
        ("country", "Guinea-Bissau", "Guinea-Bissau"),
        ("country", "It is in the U.S.", "United States"),
        ("country", "the U.S.A., of course", "United States"),
        ("country", "Let us see.", None),
        ("country", "the U.S. Virgin Islands", "U.S. Virgin Islands"),
        ("country", "Dubai is in the UAE.", "United Arab Emirates"),
        ("country", "DR Congo", "Democratic Republic of the Congo"),
        ("country", "Bonaire, Saint Eustatius and Saba", "Bonaire, Saint Eustatius and Saba"),
        ("country", "Sydney is in New South Wales, Australia.", "Australia"),
        ("country", "Albuquerque is in New Mexico.", "United States"),
        ("country", "Belfast is in Northern Ireland.", "United Kingdom"),
        ("capital", "The capital of Ukraine is Kiev (Kyiv).", "Kyiv"),
        ("capital", "Bogota", "Bogota"),
        ("capital", "The capital of Colombia is Bogotá.", "Bogota"),
        ("capital", "Bogota\u0301", "Bogota"),
        ("capital", "Asunción", "Asuncion"),
        ("capital", "Yaoundé", "Yaounde"),
        ("capital", "new delhi.", "New Delhi"),
        ("capital", "Washington, D.C.", "Washington"),
        ("state", "Austin is in Texas, USA.", "Texas"),
        ("state", "west virginia", "West Virginia"),
        ("state", "Austin is in Arkansas", "Arkansas"),
        ("state", "It is in France", None),
        ("capital_of", "Paris is the capital of France.", "France"),
        ("capital_of", "It is Côte d\u2019Ivoire", "Ivory Coast"),
    ],
)
def test_answers_are_read_off_what_models_write(kind: Kind, text: str, answer: str | None) -> None:
    assert Geonames().parse(text, asked(kind)) == answer
    if answer is not None:
        assert Geonames().parse(answer, asked(kind)) == answer


def test_correct_compares_with_every_reference() -> None:
    task = Geonames()
    assert task.correct("France", ["Spain", "France"])
    assert not task.correct("Italy", ["Spain", "France"])
    assert not task.correct(None, ["Spain"])
    assert not task.correct("Spain", [])
    assert list(task.variants(asked("country"))) == []


def test_the_source_names_its_licence() -> None:
    assert "CC BY 4.0" in Geonames().source


def test_a_city_is_one_under_all_its_names() -> None:
    about = {(item.group, subject(item)): item.cluster for split in ("train", "test") for item in items(split)}
    assert about["capital_of", "Nur-Sultan"] == about["capital", "Kazakhstan"] == about["country", "Astana"] == "astana"
    assert about["capital_of", "Ulaanbaatar"] == about["country", "Ulan Bator"] == "ulan bator"
    assert about["capital_of", "New Delhi"] == about["country", "Delhi"] == "delhi"
    assert about["capital", "Pakistan"] == "islamabad", "which Chattogram in Bangladesh is also called"
