"""Where the stages of a run put their outputs."""

import os
from dataclasses import dataclass
from pathlib import Path

from s2d_ray.data.storage import RemotePath, cache_dir

TRAINING_LOG = "training_log.jsonl"
"""In a model's folder: one JSON object per optimizer step."""


PARTS = "parts"
"""In a run's folder: one folder for each part of a mixture."""


@dataclass(frozen=True)
class RunFolders:
    """Where the stages of one run put their outputs: `<root>/<recipe>/<stage>/`."""

    base: Path
    trained: Path | None = None
    """Where the model is, if not in `base`: the parts of a mixture share one."""
    whole: Path | None = None
    """The run's own folder, if not `base`: its parts and rounds lie in it."""

    @property
    def run(self) -> Path:
        """The run's own folder, where its attempts and its status are."""
        return self.whole or self.base

    @property
    def prompts(self) -> Path:
        """The unlabelled corpus with ids (schema `PROMPTS`)."""
        return self.base / "prompts"

    @property
    def candidates(self) -> Path:
        """System 2's answers (schema `CANDIDATES`)."""
        return self.base / "candidates"

    @property
    def distilled(self) -> Path:
        """The curated pairs, the rejected and the failed prompts (schema `DECISIONS`), and the data card."""
        return self.base / "distilled"

    @property
    def model(self) -> Path:
        """The distilled model, its adapter and its training log."""
        return (self.trained or self.base) / "model"

    @property
    def evaluation(self) -> Path:
        """Every arm's answers to the held-out prompts (schema `ANSWERS`)."""
        return self.base / "evaluation"

    @property
    def validation(self) -> Path:
        """The base's and the distilled model's answers to the prompts that decide about a further round."""
        return self.base / "validation"

    @property
    def judged(self) -> Path:
        """Which of two arms' answers a judge prefers."""
        return self.base / "judged"

    @property
    def general(self) -> Path:
        """The model before and after on things that were not trained; as the model, one for all parts of a mixture."""
        return (self.trained or self.base) / "general"

    @property
    def benchmarks(self) -> Path:
        """The model before and after on tasks of lm-eval; one for all parts too."""
        return (self.trained or self.base) / "benchmarks"

    @property
    def report(self) -> Path:
        """report.json, report.md and report.html."""
        return self.base / "report"

    @property
    def serving(self) -> Path:
        """The live experiment: `experiment.json`, and `events/` with every request."""
        return self.base / "serving"

    @property
    def logs(self) -> Path:
        """What Ray, vLLM and DeepSpeed say; on this machine, wherever the results are and may be written to."""
        if isinstance(self.base, RemotePath):
            return cache_dir() / "logs" / self.base.key
        own = self.base / "logs"
        return own if writable(own) else cache_dir().joinpath("logs", *self.base.parts[1:])

    def control(self, name: str) -> "RunFolders":
        """The folders of a control arm, laid out as the run's own."""
        of_control = Path("controls", name)
        return RunFolders(self.base / of_control, self.trained and self.trained / of_control, self.run)

    def repeat(self, number: int) -> "RunFolders":
        """The folders of a training with another seed; the run's own for the first."""
        if number == 1:
            return self
        of_repeat = Path("seeds", str(number))
        return RunFolders(self.base / of_repeat, self.trained and self.trained / of_repeat, self.run)

    def part(self, name: str) -> "RunFolders":
        """The folders of a part of a mixture; the run's own for the part without a name."""
        return RunFolders(self.base / PARTS / name, self.base, self.run) if name else self

    def round(self, number: int) -> "RunFolders":
        """The folders of a round; the run's own for the first."""
        return RunFolders(self.base / f"round-{number}", whole=self.run) if number > 1 else self


def writable(folder: Path) -> bool:
    """Whether a folder can be written to, or made where there is none; of object storage nothing is known before."""
    if isinstance(folder, RemotePath):
        return True
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return os.access(there, os.W_OK)


def part_of(path: Path) -> str | None:
    """The part of a mixture that a path within its run's folder belongs to; None for what all parts share."""
    return path.parts[path.parts.index(PARTS) + 1] if PARTS in path.parts else None
