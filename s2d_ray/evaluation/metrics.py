"""What every arm scored: accuracy, generated tokens, unanswered and inconsistent share per subset, from its answers.

Where a prompt has references they decide what is right. Where no prompt of a part has any, an answer counts
as right when it is System 2's, and the score says so.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from s2d_ray.arms import CORE_ARMS, in_order
from s2d_ray.curation.rule import parse_samples
from s2d_ray.curation.votes import majority_vote
from s2d_ray.data.records import Row, candidates_from_row, labelled_from_row
from s2d_ray.errors import UserError
from s2d_ray.evaluation.statistics import Interval, Paired, mean, paired, share
from s2d_ray.tasks.task import Task

ALL = "all"
MAJORITIES = (1, 5, 10)
"""Numbers of samples whose majority the paper tables."""

ScoredAgainst = Literal["reference", "teacher", "judge"]
PromptKey = tuple[str, str]


class SampledAnswer(NamedTuple):
    """What one sample answered to the prompt itself."""

    answer: str | None
    tokens: int
    """Generated in all its steps."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one arm answered to one prompt, read by the task."""

    prompt_id: str
    subset: str
    group: str
    arm: str
    references: Sequence[str]
    answer: str | None
    """The answer most samples gave; None where no sample gave one."""
    tokens: int | None
    """Generated in all steps of all samples; None where generation failed and nothing was counted."""
    votes: Sequence[SampledAnswer] = ()
    """The samples behind `answer` and `tokens`, in the order they were drawn."""
    variants: Mapping[str, str | None] = field(default_factory=dict[str, str | None])
    """Name of each perturbed form of the prompt → the answer to it, mapped back."""
    question: str = ""
    """The same for all prompts that put one question; empty where this prompt alone does."""
    cluster: str = ""
    """That the prompt is in; empty where it is its own."""

    @property
    def key(self) -> PromptKey:
        """The same prompt in another arm has the same key."""
        return self.subset, self.prompt_id

    @property
    def unit(self) -> str:
        """The cluster, or the prompt itself where it has none."""
        return self.cluster or self.prompt_id


@dataclass(frozen=True, slots=True)
class Score:
    """One arm on one part of the evaluation set."""

    accuracy: float
    """Share of the prompts that are answered right, up to 1."""
    low: float
    """Lower end of the Wilson 95% interval of the accuracy, by clusters."""
    high: float
    """Its upper end."""
    n: int
    """Prompts scored; one that could not be generated or read counts as wrong."""
    tokens_per_answer: float | None
    """Mean generated tokens, intermediate and final; None where every prompt failed."""
    tokens_low: float | None
    """Lower end of the 95% t interval of the mean, by clusters."""
    tokens_high: float | None
    """Its upper end."""
    unanswered: float
    """Share of the prompts with no answer that the task could read."""
    scored_against: ScoredAgainst
    """What says that an answer is right: the references that it equals, the teacher's answer that it equals, or a judge
    that finds it as good as the teacher's."""
    clusters: int
    """Clusters that the prompts are in: as many are independent of each other."""
    inconsistent: Interval | None = None
    """Share of the questions whose answer changes among their forms, perturbed ones and those of several subsets; None
    where each has one form."""


@dataclass(frozen=True, slots=True)
class ArmScores:
    """One arm on every part of the evaluation set."""

    tokens_per_answer: float | None
    """Over all prompts."""
    subsets: Mapping[str, Score]
    """Each subset, and `all`."""
    by_group: Mapping[str, Mapping[str, Score]]
    """The same within each group of prompts; empty where the task has no groups."""


@dataclass(frozen=True, slots=True)
class Precision:
    """How often the curated targets are right, beside System 2's answers as they came. For reports only."""

    curated: Interval
    """Over the kept prompts with a reference."""
    raw: Interval
    """Mean over all generated prompts with a reference of the share of their samples that is right."""
    raw_kept: Interval
    """The same over the prompts of `curated`: beside `raw` it shows which prompts were kept, beside `curated` which
    of their answers was chosen."""


def answer_of(row: Row, task: Task) -> Answer:
    """The answer in a row of schema `ANSWERS`."""
    candidates = candidates_from_row(row)
    parsed = parse_samples(candidates, task)
    own = parsed.of("")
    votes = [SampledAnswer(answer, sample.tokens) for answer, sample in zip(own.answers, own.samples, strict=True)]
    perturbed = dict.fromkeys(sample.variant for sample in parsed.samples if sample.variant)
    return Answer(
        prompt_id=row["prompt_id"],
        subset=row["subset"],
        group=row["group"],
        arm=row["arm"],
        references=row["references"],
        answer=_most_frequent(own.answers, task),
        tokens=_tokens(votes),
        votes=votes,
        variants={name: _most_frequent(parsed.of(name).answers, task) for name in perturbed},
        question=task.question(candidates.prompt),
        cluster=labelled_from_row(row).cluster,
    )


def of_first(answer: Answer, samples: int, task: Task) -> Answer:
    """What the answer would be, and cost, with the first samples only."""
    votes = answer.votes[:samples]
    return replace(answer, answer=_most_frequent([v.answer for v in votes], task), tokens=_tokens(votes), votes=votes)


def _tokens(votes: Sequence[SampledAnswer]) -> int | None:
    return sum(vote.tokens for vote in votes) if votes else None


def _most_frequent(answers: Sequence[str | None], task: Task) -> str | None:
    vote = majority_vote(answers, task.key, tie="first")
    return vote.answer if vote else None


def score_arms(answers: Sequence[Answer], task: Task, needed: Sequence[str] = CORE_ARMS) -> dict[str, ArmScores]:
    """Every arm that answered, in the order of the tables.

    Raises UserError where one of the `needed` arms has no answers.
    """
    by_arm: dict[str, list[Answer]] = {arm: [] for arm in in_order(answer.arm for answer in answers)}
    for answer in answers:
        by_arm[answer.arm].append(answer)
    if missing := [arm for arm in needed if arm not in by_arm]:
        raise UserError(f"no answers of {', '.join(missing)} in evaluation/: run `s2d evaluate` again with --overwrite")
    teacher = {a.key: a.answer for a in by_arm.get("teacher", ())}
    return {arm: _score_arm(own, task, teacher) for arm, own in by_arm.items()}


def majorities(answers: Sequence[Answer], samples: int, task: Task) -> dict[int, dict[str, ArmScores]]:
    """Number of samples → every arm scored on the majority of so many, with the tokens of all of them.

    For the numbers of `MAJORITIES` that the `samples` of each prompt suffice for.
    """
    return {
        k: score_arms([of_first(answer, k, task) for answer in answers], task, needed=())
        for k in MAJORITIES
        if k <= samples
    }


def changes(forms: Sequence[Answer], task: Task) -> bool | None:
    """Whether one arm answers a question otherwise in some form: one of these prompts, or a perturbed form of one.

    None where there is one form only, or no form is answered at all: that says nothing about consistency.
    """
    given = [said for answer in forms for said in (answer.answer, *answer.variants.values())]
    keys = {None if said is None else task.key(said) for said in given}
    return None if len(given) == 1 or keys == {None} else len(keys) > 1


def marks(
    answers: Sequence[Answer], task: Task, teacher: Mapping[PromptKey, str | None]
) -> tuple[ScoredAgainst, dict[PromptKey, bool]]:
    """Whether one arm's answers are right, against their references or, where none has any, against `teacher`.

    Prompts without a reference are left out as soon as one of the others has some: the two measures do not
    mix. Where the teacher gave no answer nothing agrees with it.
    """
    labelled = [a for a in answers if a.references]
    if labelled:
        return "reference", {a.key: task.correct(a.answer, a.references) for a in labelled}
    return "teacher", {a.key: task.correct(a.answer, _known(teacher.get(a.key))) for a in answers}


def compare(answers: Sequence[Answer], first: str, second: str, task: Task) -> dict[str, Paired]:
    """Arm `first` minus arm `second` on the prompts that both were scored on: per subset, and `all`."""
    teacher = {a.key: a.answer for a in answers if a.arm == "teacher"}
    units = {a.key: a.unit for a in answers}
    results: dict[str, Paired] = {}
    for subset in subsets_of(answers):
        part = of_subset(answers, subset)
        ours, theirs = (marks([a for a in part if a.arm == arm], task, teacher)[1] for arm in (first, second))
        both = [key for key in ours if key in theirs]
        if both:
            results[subset] = paired(
                [ours[key] for key in both], [theirs[key] for key in both], [units[key] for key in both]
            )
    return results


def by_question(answers: Iterable[Answer]) -> dict[object, list[Answer]]:
    """One arm's answers to each question."""
    questions: dict[object, list[Answer]] = {}
    for answer in answers:
        questions.setdefault(answer.question or answer.key, []).append(answer)
    return questions


def compare_changes(answers: Sequence[Answer], first: str, second: str, task: Task) -> Paired | None:
    """Share of the questions that arm `first` answers otherwise in some form, minus that of `second`.

    Of the questions that both answer in some form; None where there are none that are put in several.
    """
    ours, theirs = (
        {question: changed for question, forms in of_arm.items() if (changed := changes(forms, task)) is not None}
        for of_arm in (by_question(a for a in answers if a.arm == arm) for arm in (first, second))
    )
    units = {question: forms[0].unit for question, forms in by_question(answers).items()}
    both = [question for question in ours if question in theirs]
    if not both:
        return None
    return paired([ours[q] for q in both], [theirs[q] for q in both], [units[q] for q in both])


def of_subset(answers: Iterable[Answer], subset: str) -> list[Answer]:
    """Those of one subset; for `all` all of them."""
    return [answer for answer in answers if subset in (ALL, answer.subset)]


def subsets_of(answers: Iterable[Answer]) -> list[str]:
    """Every subset by name, then `all`."""
    return [*sorted({a.subset for a in answers} - {ALL}), ALL]


def precision(
    decisions: Iterable[Row], references: Mapping[str, Sequence[str]], units: Mapping[str, str], task: Task
) -> Precision | None:
    """Precision of the targets in rows of schema `DECISIONS`, given references and clusters by prompt id.

    Only their prompt_id, status, target and votes are read. None where no kept prompt has a reference; prompts
    that failed before they had samples are left out.
    """
    targets: list[tuple[bool, str]] = []
    raw: list[tuple[float, str]] = []
    raw_kept: list[tuple[float, str]] = []
    for row in decisions:
        right = references.get(row["prompt_id"])
        if not right or not row["votes"]:
            continue
        unit = units[row["prompt_id"]]
        raw.append((sum(task.correct(vote or None, right) for vote in row["votes"]) / len(row["votes"]), unit))
        if row["status"] == "kept":
            targets.append((task.correct(row["target"], right), unit))
            raw_kept.append(raw[-1])
    if not targets:
        return None
    return Precision(
        share(*zip(*targets, strict=True)), mean(*zip(*raw, strict=True)), mean(*zip(*raw_kept, strict=True))
    )


def _known(answer: str | None) -> Sequence[str]:
    return [] if answer is None else [answer]


def _score_arm(answers: Sequence[Answer], task: Task, teacher: Mapping[PromptKey, str | None]) -> ArmScores:
    groups = sorted({a.group for a in answers} - {""})
    subsets = _score_subsets(answers, task, teacher)
    by_group = {g: _score_subsets([a for a in answers if a.group == g], task, teacher) for g in groups}
    return ArmScores(subsets[ALL].tokens_per_answer, subsets, by_group)


def _score_subsets(answers: Sequence[Answer], task: Task, teacher: Mapping[PromptKey, str | None]) -> dict[str, Score]:
    return {subset: _score(of_subset(answers, subset), task, teacher) for subset in subsets_of(answers)}


def _score(answers: Sequence[Answer], task: Task, teacher: Mapping[PromptKey, str | None]) -> Score:
    against, right = marks(answers, task, teacher)
    units = {a.key: a.unit for a in answers}
    accuracy = share(list(right.values()), [units[key] for key in right])
    counted = [(a.tokens, a.unit) for a in answers if a.tokens is not None]
    tokens = mean(*zip(*counted, strict=True)) if counted else None
    changed = [
        (change, forms[0].unit)
        for forms in by_question(answers).values()
        if (change := changes(forms, task)) is not None
    ]
    return Score(
        accuracy=accuracy.value,
        low=accuracy.low,
        high=accuracy.high,
        n=accuracy.n,
        tokens_per_answer=tokens.value if tokens else None,
        tokens_low=tokens.low if tokens else None,
        tokens_high=tokens.high if tokens else None,
        unanswered=sum(a.answer is None for a in answers) / len(answers),
        scored_against=against,
        clusters=len({units[key] for key in right}),
        inconsistent=share(*zip(*changed, strict=True)) if changed else None,
    )
