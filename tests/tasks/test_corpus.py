"""The corpus on disk: streamed, whole or the first by id, and known by its prompts whatever their order."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from s2d_ray.data.artifacts import Artifact
from s2d_ray.data.files import part_files, read_rows
from s2d_ray.data.manifests import CorpusManifest
from s2d_ray.data.records import LabelledPrompt, Prompt, content_id, user
from s2d_ray.errors import UserError
from s2d_ray.recipes.load import load_single_recipe
from s2d_ray.recipes.recipe import Recipe
from s2d_ray.tasks import corpus
from s2d_ray.tasks.corpus import held_out, held_out_digest, write_corpus
from s2d_ray.tasks.registry import load_task
from s2d_ray.tasks.task import Split, Task


class Counted(Task):
    """Numbered prompts in either order, of two subsets."""

    prompts: int
    backwards: bool = False
    first: int = 0
    forms: int = 0
    """In so many cases each is asked; 0: once, and each is its own cluster."""

    def items(self, split: Split, seed: int) -> Iterator[LabelledPrompt]:
        numbers = range(self.first, self.first + self.prompts)
        for number in reversed(numbers) if self.backwards else numbers:
            prompt = Prompt(content_id(split, str(number)), [user(f"Case {number}?")])
            about = f"about {number // self.forms}" if self.forms else ""
            yield LabelledPrompt(prompt, [], "even" if number % 2 == 0 else "odd", cluster=about)

    def parse(self, text: str, prompt: Prompt) -> str | None:
        return text

    @property
    def source(self) -> str:
        return "counted"


def recipe_of(limit: int | None = None, evaluated: int | None = None, **task: object) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "trial",
            "model": "none",
            "limit": limit,
            "task": {"name": f"{__name__}:Counted"} | task,
            "method": "direct",
            "evaluate": {"limit": evaluated},
        }
    )


def written(recipe: Recipe, folder: Path, overwrite: bool = False) -> Artifact[CorpusManifest]:
    return write_corpus(recipe, load_task(recipe.task), folder, overwrite)


def evaluated_on(recipe: Recipe) -> list[LabelledPrompt]:
    return held_out(recipe, load_task(recipe.task))


def ids(folder: Path) -> list[str]:
    return [row["prompt_id"] for row in read_rows(folder)]


@pytest.mark.parametrize("prompts", [0, 1, 6, 7, 12, 13, 25])
def test_every_prompt_is_written_once(prompts: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "ROWS_PER_GROUP", 3)
    monkeypatch.setattr(corpus, "GROUPS_PER_FILE", 2)
    made = written(recipe_of(prompts=prompts), tmp_path / "prompts", overwrite=False)
    assert Counter(ids(made.path)) == Counter(content_id("train", str(n)) for n in range(prompts))
    assert made.manifest.rows == prompts
    sizes = [pq.read_metadata(path).num_rows for path in part_files(made.path)]
    assert all(size == 6 for size in sizes[:-1])
    assert 0 < sizes[-1] <= 6 or sizes == [0]


def test_a_limited_corpus_is_the_first_by_id(tmp_path: Path) -> None:
    whole = sorted(ids(written(recipe_of(prompts=40), tmp_path / "whole", overwrite=False).path))
    assert ids(written(recipe_of(limit=9, prompts=40), tmp_path / "some", overwrite=False).path) == whole[:9]


def test_a_corpus_is_known_by_its_prompts_and_not_by_their_order(tmp_path: Path) -> None:
    made = written(recipe_of(prompts=20), tmp_path, overwrite=False)
    other = written(recipe_of(prompts=20, backwards=True), tmp_path / "other", overwrite=False)
    assert other.manifest.digest == made.manifest.digest
    with pytest.raises(UserError, match="different recipe"):
        written(recipe_of(prompts=20, first=1), tmp_path, overwrite=False)


@pytest.mark.parametrize(
    ("name", "corpus", "tested"),
    [
        ("rar-last-letter-small", "f6b4a442824d45db", "3ccb4f651269eee1c5e1"),
        ("rar-coin-flip-small", "081a75ffd01f9524", "cd15c9369ff94b875675"),
        ("cot-gsm8k-small", "a1a7f5d973227c08", "f7abad533cb31aa4a500"),
        ("s2a-geonames", "29882fa2a6a6e0fd", "5fd34d49bc5ad46e6e77"),
    ],
)
def test_the_shipped_prompts_fall_into_the_splits_as_they_always_have(
    name: str, corpus: str, tested: str, tmp_path: Path
) -> None:
    """Where one of these changes, results of before are not gone on from, and scores do not compare."""
    recipe = load_single_recipe(name)
    assert written(recipe, tmp_path, overwrite=False).fingerprint == corpus
    assert held_out_digest(evaluated_on(recipe)) == tested


@pytest.mark.parametrize("limit", [None, 1, 4, 100])
def test_held_out_prompts_are_the_first_by_id_of_each_subset(limit: int | None) -> None:
    chosen = evaluated_on(recipe_of(evaluated=limit, prompts=30))
    names = [item.prompt.prompt_id for item in chosen]
    assert names == sorted(names)
    for odd, subset in enumerate(("even", "odd")):
        of_subset = sorted(content_id("test", str(n)) for n in range(odd, 30, 2))
        assert [item.prompt.prompt_id for item in chosen if item.subset == subset] == of_subset[:limit]


@pytest.mark.parametrize("backwards", [False, True])
def test_of_limited_held_out_prompts_all_forms_of_a_question_are_there_or_none(backwards: bool) -> None:
    chosen = evaluated_on(recipe_of(evaluated=5, prompts=200, forms=2, backwards=backwards))
    assert Counter(item.subset for item in chosen) == {"even": 5, "odd": 5}
    assert set(Counter(item.cluster for item in chosen).values()) == {2}
    more = evaluated_on(recipe_of(evaluated=20, prompts=200, forms=2))
    assert {item.prompt.prompt_id for item in chosen} < {item.prompt.prompt_id for item in more}


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize(("limit", "clusters"), [(6, 6), (10, 10), (25, 10), (100, 10)])
def test_limited_held_out_prompts_are_of_as_many_clusters_as_can_be(limit: int, clusters: int, backwards: bool) -> None:
    """A hundred prompts in ten clusters of five even and five odd ones."""
    chosen = evaluated_on(recipe_of(evaluated=limit, prompts=100, forms=10, backwards=backwards))
    for subset in ("even", "odd"):
        of_each = Counter(item.cluster for item in chosen if item.subset == subset)
        assert (len(of_each), of_each.total()) == (clusters, min(limit, 50))
        assert max(of_each.values()) - min(of_each.values()) <= 1


def test_held_out_prompts_are_known_by_their_clusters_too() -> None:
    digests = {held_out_digest(evaluated_on(recipe_of(prompts=20, forms=forms))) for forms in (0, 1, 2, 4)}
    assert len(digests) == 4


HALF = "\ud83d"


class Odd(Counted):
    """Numbered prompts, two of which cannot be written."""

    odd: str

    def items(self, split: Split, seed: int) -> Iterator[LabelledPrompt]:
        for number, item in enumerate(super().items(split, seed)):
            yield item if number not in (3, 5) else self.made(item)

    def made(self, item: LabelledPrompt) -> LabelledPrompt:
        other: Any = {
            "text": {"messages": [user(HALF)]},
            "id": {"prompt_id": item.prompt.prompt_id + HALF},
            "field": {"fields": {"bare": HALF}},
            "number": {"messages": [{"role": "user", "content": 5}]},
            "turn": {"messages": [{"role": "user"}]},
        }
        return replace(item, prompt=replace(item.prompt, **other[self.odd]))


@pytest.mark.parametrize("odd", ["text", "id", "field", "number", "turn"])
def test_a_prompt_of_a_task_of_ones_own_that_cannot_be_written_is_refused(odd: str, tmp_path: Path) -> None:
    recipe = recipe_of(name=f"{__name__}:Odd", prompts=20, odd=odd)
    made = written(recipe, tmp_path / "prompts")
    assert Counter(ids(made.path)) == Counter(content_id("train", str(n)) for n in range(20) if n not in (3, 5))
    assert (made.manifest.rows, made.manifest.rows_read, sum(made.manifest.refused.values())) == (18, 20, 2)
    half = "train prompts of Odd, prompt 4: a prompt has half of a character (a lone surrogate)"
    assert (made.manifest.first_refused or "").startswith(
        half if odd in ("text", "id", "field") else "train prompts of Odd, prompt 4: a prompt is not of texts: "
    )
    assert len(evaluated_on(recipe)) == 18


def test_prompts_none_of_which_can_be_written_are_one_line(tmp_path: Path) -> None:
    class AllOdd(Odd):
        def items(self, split: Split, seed: int) -> Iterator[LabelledPrompt]:
            yield from map(self.made, Counted.items(self, split, seed))

    recipe = recipe_of(prompts=3)
    with pytest.raises(UserError, match=r"none of 3 rows can be used; train prompts of AllOdd, prompt 1: a prompt has"):
        write_corpus(recipe, AllOdd(prompts=3, odd="text"), tmp_path / "prompts")


@pytest.mark.parametrize("change", ["another row", "a row more", "a row fewer", "no rows"])
def test_prompts_that_change_while_they_are_read_stop_in_one_line_and_the_next_run_goes_on(
    change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "p.csv"
    before = [f"What is {n}?" for n in range(50)]
    after = {
        "another row": [*before[:-1], "And now?"],
        "a row more": [*before, "And now?"],
        "a row fewer": before[:-1],
        "no rows": [],
    }[change]

    def write(texts: Sequence[str]) -> None:
        path.write_text("".join(f"{text}\n" for text in ["prompt", *texts]))

    task = {"name": "prompts", "path": str(path), "test_path": str(tmp_path / "test.csv")}
    (tmp_path / "test.csv").write_text("prompt\nHeld out?\n")
    recipe = Recipe.model_validate({"name": "trial", "model": "none", "method": "direct", "task": task})
    open_artifact = Artifact.open

    def opened(self: Artifact[CorpusManifest], overwrite: bool = False) -> bool:
        write(after)
        return open_artifact(self, overwrite)

    write(before)
    with monkeypatch.context() as patch:
        patch.setattr(Artifact, "open", opened)
        with pytest.raises(UserError) as caught:
            written(recipe, tmp_path / "prompts")
    said = f"{path} has no rows" if change == "no rows" else "the prompts changed while they were read (p.csv; "
    assert str(caught.value).startswith(said)
    write(after or before)
    made = written(recipe, tmp_path / "prompts")
    assert {row["messages"][0]["content"] for row in read_rows(made.path)} == set(after or before)
    assert made.manifest.rows == len(after or before)
