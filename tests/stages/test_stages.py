"""Generate and curate on a local Ray with the scripted engine, as a user runs them."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from datasets import load_dataset

from s2d_ray.data.files import part_files, read_json, read_rows
from s2d_ray.data.records import Row
from s2d_ray.errors import UserError
from tests.stages.runs import by_id, ids, run_here, write_corpus, write_recipe

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, local_ray: None) -> Path:
    """The results folder of an undisturbed run through curation."""
    folder = tmp_path_factory.mktemp("finished")
    corpus = write_corpus(folder / "corpus.jsonl", 60)
    return run_here(write_recipe(folder, tiny_model, corpus), folder, "generate", "curate")


def test_every_prompt_has_its_samples_once(finished: Path) -> None:
    prompts = ids(finished / "prompts")
    assert len(prompts) == read_json(finished / "prompts" / "manifest.json")["rows"] > 40
    assert ids(finished / "candidates") == prompts


def test_outcomes_add_up_to_the_corpus(finished: Path) -> None:
    counts = read_json(finished / "distilled" / "manifest.json")
    assert counts["kept"] + sum(counts["rejected"].values()) + sum(counts["failed"].values()) == counts["rows"]
    assert ids(finished / "distilled") == ids(finished / "prompts")
    assert counts["rejected"], "one of five samples is wrong, so some prompt must lack a majority"


def test_targets_are_the_majority_and_have_no_trace_of_system_2(finished: Path) -> None:
    kept = by_id(finished / "distilled", "kept")
    for row in kept.values():
        assert row["vote_share"] > 0.5
        assert row["messages"][-1] == {"role": "assistant", "content": row["target"]}
        assert len(row["messages"]) == 2
        assert "Rewrite" not in json.dumps(row["messages"])


def test_datasets_loads_the_distilled_folder(finished: Path) -> None:
    loaded = load_dataset(str(finished / "distilled"), split="train")
    assert sorted(loaded["prompt_id"]) == sorted(by_id(finished / "distilled", "kept"))
    assert loaded[0]["messages"][-1]["role"] == "assistant"


def test_the_same_seed_gives_the_same_distilled_set(finished: Path, tmp_path: Path, tiny_model: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus.jsonl", 60)
    recipe = write_recipe(tmp_path, tiny_model, corpus, generate={"samples": 4, "commit_rows": 5, "concurrent_rows": 7})
    again = run_here(recipe, tmp_path, "generate", "curate")
    for status in ("kept", "rejected"):
        assert by_id(again / "distilled", status) == by_id(finished / "distilled", status)


def test_a_bad_row_fails_alone_with_its_reason(tmp_path: Path, tiny_model: Path, local_ray: None) -> None:
    corpus = write_corpus(tmp_path / "corpus.jsonl", 40)
    with corpus.open("a") as file:
        file.write('{"prompt": null}\n{"prompt": "  "}\n')
    recipe = write_recipe(
        tmp_path,
        tiny_model,
        corpus,
        "failing_on_seven",
        generate={"samples": 2, "commit_rows": 8, "max_failed_share": 0.5},
        task={"name": "prompts", "path": str(corpus), "test_path": str(write_corpus(tmp_path / "test.jsonl", 3))},
    )
    distilled = run_here(recipe, tmp_path, "generate", "curate") / "distilled"
    counts = read_json(distilled / "manifest.json")
    sevens = sum("7" in row["messages"][0]["content"] for row in by_id(distilled, "failed").values())
    assert counts["failed"]["ValueError"] == sevens > 0
    assert counts["kept"] > 0
    assert sum(read_json(distilled.parent / "prompts" / "manifest.json")["refused"].values()) == 2


def test_too_many_failures_stop_the_stage(tmp_path: Path, tiny_model: Path, local_ray: None) -> None:
    corpus = write_corpus(tmp_path / "corpus.jsonl", 20)
    recipe = write_recipe(tmp_path, tiny_model, corpus, "always_failing")
    with pytest.raises(
        UserError, match=r"prompts failed, more than generate.max_failed_share 0.1.*: ValueError \("
    ) as caught:
        run_here(recipe, tmp_path, "generate")
    # What the message of an exception quotes may be a prompt: only --debug prints it.
    assert "out of order" not in str(caught.value)
    assert caught.value.__notes__ == ["the first reason: ValueError: out of order"]


def test_a_method_of_the_users_own(tmp_path: Path, tiny_model: Path, local_ray: None) -> None:
    corpus = write_corpus(tmp_path / "corpus.jsonl", 12)
    recipe = write_recipe(tmp_path, tiny_model, corpus, method="tests.scripts:ask_twice")
    for row in read_rows(run_here(recipe, tmp_path, "generate") / "candidates"):
        for sample in row["samples"]:
            assert [step["name"] for step in sample["steps"]] == ["first", "second"]


def test_a_finished_stage_is_reused_and_another_recipe_refused(finished: Path, tiny_model: Path) -> None:
    recipe = write_recipe(finished.parent, tiny_model, finished.parent / "corpus.jsonl")
    before = (finished / "candidates" / "manifest.json").read_text()
    run_here(recipe, finished.parent, "generate")
    assert (finished / "candidates" / "manifest.json").read_text() == before
    with pytest.raises(UserError, match=r"different recipe \(sampling.temperature: 0.6 there, 0.9 now\)"):
        run_here(recipe, finished.parent, "generate", **{"generate.sampling.temperature": "0.9"})


def test_where_nothing_is_kept_the_run_goes_on_to_its_report(tmp_path: Path, tiny_model: Path, local_ray: None) -> None:
    corpus = write_corpus(tmp_path / "corpus.jsonl", 1)
    task = {"name": "coin_flip", "train_items": 12, "valid_items": 4, "test_items": 6, "perturbations": ["reverse"]}
    # What the script says is no answer to a coin flip.
    recipe = write_recipe(
        tmp_path, tiny_model, corpus, method="direct", task=task, evaluate={"controls": False, "also": ["rar1"]}
    )
    stages = ("generate", "curate", "train", "evaluate", "report")
    base = run_here(recipe, tmp_path, *stages)
    assert "kept none of 12 prompts" in read_json(base / "model" / "manifest.json")["skipped"]
    rows = list(read_rows(base / "evaluation"))
    asked = [(row["arm"], sample["variant"]) for row in rows for sample in row["samples"]]
    assert Counter(asked) == {
        (arm, variant): 6 for arm in ("base", "teacher", "teacher_rar1") for variant in ("", "reverse")
    }
    report = read_json(base / "report" / "report.json")
    assert report["verdict"]["verdict"] == "open: more held-out prompts are needed"
    assert "12 rejected (no sample gives an answer 12)" in report["verdict"]["reason"]
    manifest = read_json(base / "evaluation" / "manifest.json")
    assert manifest["model_loads"] == 1
    finished = manifest["finished"]
    run_here(recipe, tmp_path, *stages)
    assert read_json(base / "evaluation" / "manifest.json")["finished"] == finished, "it was evaluated again"


def texts(samples: Sequence[Row]) -> list[str]:
    return [sample["text"] for sample in samples]


def test_parts_that_are_lost_or_cut_are_made_again_and_a_copy_is_refused(
    tmp_path: Path, tiny_model: Path, local_ray: None, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = write_recipe(tmp_path, tiny_model, write_corpus(tmp_path / "corpus.jsonl", 40))
    folder = run_here(recipe, tmp_path, "generate") / "candidates"
    whole = {row["prompt_id"]: row["samples"] for row in read_rows(folder)}
    parts = part_files(folder)
    copy = parts[0].read_bytes()
    parts[0].unlink()
    parts[1].write_bytes(b"")
    capsys.readouterr()
    with pytest.raises(UserError, match=r"candidates has parts that cannot be read \(part-0000001\.parquet\): run the"):
        run_here(recipe, tmp_path, "curate")
    distilled = run_here(recipe, tmp_path, "generate", "curate") / "distilled"
    assert "part-0000001.parquet cannot be read: it is made anew" in capsys.readouterr().out
    assert read_json(folder / "manifest.json")["generated_now"] == 16, "what was there was made again"
    again = {row["prompt_id"]: row["samples"] for row in read_rows(folder)}
    assert {key: texts(own) for key, own in again.items()} == {key: texts(own) for key, own in whole.items()}
    assert ids(distilled) == ids(folder) == ids(folder.parent / "prompts")
    (folder / "part-0000000 (copy).parquet").write_bytes(copy)
    with pytest.raises(UserError, match=r"\(part-0000000 \(copy\)\.parquet: not as its stage wrote it\): remove what"):
        run_here(recipe, tmp_path, "generate", "curate")
    (folder / "part-0000000 (copy).parquet").unlink()
    run_here(recipe, tmp_path, "generate", "curate")
    assert read_json(folder / "manifest.json")["generated_now"] == 0
