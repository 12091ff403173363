"""What a report consists of: the models that its sections are drawn from."""

from collections.abc import Mapping
from typing import Literal

from s2d_ray.evaluation.cascade import Calibration, CurvePoint
from s2d_ray.evaluation.metrics import Score
from s2d_ray.evaluation.verdict import Conclusion
from s2d_ray.recipes.strict import Strict
from s2d_ray.report.published import Figure, Mark


class PromptCounts(Strict):
    """Where the prompts of the corpus went."""

    corpus: int
    """All of them."""
    kept: int
    """Prompts that became a target."""
    rejected: Mapping[str, int]
    """Reason → prompts."""
    failed: Mapping[str, int]
    """Reason → prompts."""


class LossPoint(Strict):
    """One optimizer step."""

    step: int
    """From 1."""
    loss: float | None
    """Mean over the batch's examples of the mean over each one's target tokens; None where it was not finite."""


class TrainingFigures(Strict):
    """How one arm was trained."""

    examples: int
    """Pairs that were trained on."""
    steps: int
    """Optimizer steps."""
    tokens: int
    """Trained on, over all epochs."""
    seconds: float
    """Of the whole training."""
    tokens_per_second: float
    """Over all workers."""
    curve: tuple[LossPoint, ...]
    """Some of the steps where there were many."""


class CalibratedCascade(Strict):
    """The cascade that the recipe asks for."""

    confidence: Literal["logprob", "votes"]
    """How the student's confidence is measured."""
    calibration: Calibration
    """The threshold, and what it gives."""
    curve: tuple[CurvePoint, ...]
    """From the highest threshold to the lowest."""


class Spread(Strict):
    """One figure of several trainings that differ in their seed alone."""

    values: tuple[float, ...]
    """Of each training, the first being the one that the rest of the report is about."""
    mean: float
    """Of all of them."""
    deviation: float
    """Standard deviation between trainings."""


class Repeats(Strict):
    """How far trainings with other seeds are from each other."""

    accuracy: Mapping[str, Mapping[str, Spread]]
    """Arm → subset, and `all` → shares of prompts answered right."""
    inconsistent: Mapping[str, Spread]
    """Arm → shares of the questions put in several forms whose answer changes; empty where none is."""
    differences: Mapping[str, Mapping[str, Spread]]
    """`<first>_vs_<second>` → subset → first minus second, training by training."""
    verdicts: tuple[Conclusion, ...]
    """Of each training."""


class PaperFigure(Strict):
    """One figure of the paper beside the run's own."""

    published: Figure
    """As the paper has it."""
    run: Score | None
    """Of one sample; None where the run has no such arm or subset, or is scored against the teacher."""


class PaperResults(Strict):
    """What the paper says of the recipe's task and method."""

    metric: str
    """What the paper measures by."""
    distils: bool
    """Whether the paper calls the task and method one that distils."""
    finding: str
    """What it concludes, in a sentence."""
    finding_mark: Mark
    """Where the finding is known from."""
    figures: tuple[PaperFigure, ...]
    """One for each arm and subset that it reports."""


class ExampleMessage(Strict):
    """One message of a prompt."""

    role: str
    """As chat templates name it: user, assistant or system."""
    content: str
    """What is said."""


class StepText(Strict):
    """One model call of a method that makes several."""

    name: str
    """As the method names its step."""
    text: str
    """What the model said."""
    thought: str
    """What it thought before; empty where it did not."""


class ArmAnswer(Strict):
    """What one arm made of a prompt."""

    text: str
    """Of the first sample that gave `answer`."""
    answer: str | None
    """What the task reads off most samples; None where it reads none."""
    correct: bool | None
    """None where this prompt is not scored: it has no reference and others have."""
    tokens: int | None
    """Generated in all steps of all samples; None where generation failed."""
    variants: Mapping[str, str | None]
    """The answer to each perturbed form of the prompt, mapped back."""
    error: str
    """Why there is no answer; empty where nothing failed."""
    steps: tuple[StepText, ...]
    """Every call behind `text`, where there was more than one."""
    thought: str
    """What the model thought before `text`, where there was one call; empty where it did not."""


class Example(Strict):
    """One held-out prompt and all arms' answers to it."""

    prompt_id: str
    """The same in every run of the task."""
    messages: tuple[ExampleMessage, ...]
    """What is asked plainly."""
    references: tuple[str, ...]
    """Every answer that counts as right; empty where nothing is known."""
    subset: str
    """The part of the evaluation set that it is scored in."""
    group: str
    """The kind of prompt within it; empty where the task has none."""
    answers: Mapping[str, ArmAnswer]
    """Arm → its answer."""
