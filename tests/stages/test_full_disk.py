"""A disk that is full in the midst of a stage, in workers of Ray: one line, and the same command goes on."""

from pathlib import Path

import pytest

from s2d_ray.data.files import read_json
from s2d_ray.data.shards import parts_done
from tests.small_disk import NEEDS_ROOT, fill, small_disk
from tests.stages.runs import PATIENCE, exit_code, ids, run, start, write_corpus, write_recipe
from tests.stages.test_resume import FEW_PARTS, ROWS, wait_for

pytestmark = [pytest.mark.long, pytest.mark.train, NEEDS_ROOT]
SAID = "s2d: no space is left "
GOES_ON = ": make room there; the same command then goes on where it stopped"


def test_generating_and_training_end_in_one_line_and_go_on(tmp_path: Path, tiny_model: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus.jsonl", ROWS)
    training = {"epochs": 4, "batch_size": 8, "micro_batch_size": 8, "checkpoint_steps": 2, "max_failures": 0}
    recipe = write_recipe(tmp_path, tiny_model, corpus, "slow_oracle", train=training)
    with small_disk(tmp_path / "disk", 200 * 1024) as disk:
        folder = disk / "trial"

        def ends_in_one_line() -> str:
            said, _ = process.communicate(timeout=PATIENCE)
            *_, last, _ = said.splitlines()
            assert exit_code(said) == 1 and "Traceback" not in said, said
            assert last.startswith(SAID) and last.endswith(GOES_ON)
            return last

        process = start(["run", str(recipe), "--until", "generate"], disk)
        wait_for(lambda: parts_done(folder / "candidates") >= FEW_PARTS, process, PATIENCE)
        filler = fill(disk)
        assert ends_in_one_line().startswith(f"{SAID}in {folder}/candidates")
        filler.unlink()
        run(["run", str(recipe), "--until", "curate"], disk)
        assert read_json(folder / "candidates" / "manifest.json")["resumed"] >= FEW_PARTS
        assert ids(folder / "candidates") == ids(folder / "prompts")
        process = start(["run", str(recipe), "--until", "train"], disk)
        wait_for((folder / "model" / "training_log.jsonl").exists, process, PATIENCE)
        filler = fill(disk)
        ends_in_one_line()
        filler.unlink()
        run(["run", str(recipe), "--until", "train"], disk)
        assert read_json(folder / "model" / "manifest.json")["steps"]
