"""The rows that pass between stages, and the Arrow schemas they are stored in.

A prompt has no place for a label: only `LabelledPrompt`, which evaluation alone reads, has one.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, TypedDict

import pyarrow as pa


class Message(TypedDict):
    """One turn of a chat, as every chat template reads it."""

    role: str
    content: str


def user(text: str) -> Message:
    """The turn in which a person says `text`."""
    return {"role": "user", "content": text}


def assistant(text: str) -> Message:
    """The turn in which the model says `text`."""
    return {"role": "assistant", "content": text}


def text_given(value: object, giver: str) -> str:
    """What code of a user's own gave as a text. Raises TypeError where it is none."""
    if not isinstance(value, str):
        raise TypeError(f"{giver} gave {type(value).__name__}, not a text")
    return value


def content_id(*parts: str) -> str:
    """A row's identity from what it says, so that no reordering or rerun can change it."""
    return blake2b("\x1f".join(parts).encode(), digest_size=10).hexdigest()


@dataclass(frozen=True, slots=True)
class Prompt:
    """An unlabelled input: what System 1 is asked, and what System 2 works from."""

    prompt_id: str
    messages: Sequence[Message]
    """The plain System 1 input, without any reasoning instruction."""
    fields: Mapping[str, str] = field(default_factory=dict[str, str])
    """Label-free parts of the input that a method or a task needs apart (a question, two responses)."""

    @property
    def text(self) -> str:
        """What the person said last."""
        return self.messages[-1]["content"]


@dataclass(frozen=True, slots=True)
class LabelledPrompt:
    """A prompt with its reference, for evaluation only."""

    prompt: Prompt
    references: Sequence[str]
    """Every answer that counts as right; empty where nothing is known."""
    subset: str
    """The part of the evaluation set that it is scored in."""
    group: str = ""
    """A finer part (a kind of question, a category), reported beside the subset."""
    cluster: str = ""
    """What it is about (a city, a question): prompts of one cluster are answered right or wrong together, so intervals
    count clusters, and none is in two splits. Empty where the prompt is its own."""

    @property
    def unit(self) -> str:
        """The cluster, or the prompt itself where it has none."""
        return self.cluster or self.prompt.prompt_id


@dataclass(frozen=True, slots=True)
class Completion:
    """One generation by the engine."""

    text: str
    finish_reason: str
    """`stop` where the model ended by itself, `length` where it ran into the token limit."""
    prompt_tokens: int
    cached_tokens: int
    """Prompt tokens whose keys and values the prefix cache already held."""
    completion_tokens: int
    mean_logprob: float | None = None
    """Of the generated tokens; None where the engine was not asked for it."""
    thought: str = ""
    """What the model thought before the text, where it thinks; its tokens are among `completion_tokens`."""


@dataclass(frozen=True, slots=True)
class Step:
    """One model call inside a method, kept so that a person can see what happened."""

    name: str
    text: str
    finish_reason: str
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    seconds: float
    mean_logprob: float | None = None
    """Of the generated tokens; None where the engine was not asked for it."""
    thought: str = ""
    """What the model thought before the text; shown to a person, never part of an answer or a key, and of a target only
    where that is the trace."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One run of a method on one prompt: its final answer and every call it made."""

    text: str
    variant: str = ""
    """The perturbation of the prompt that was answered; empty for the prompt itself."""
    error: str = ""
    """Why the method gave no answer, where it gave none (malformed model output)."""
    steps: Sequence[Step] = ()

    @property
    def tokens(self) -> int:
        """Generated tokens, intermediate and final: the paper's #Tokens."""
        return sum(step.completion_tokens for step in self.steps)


@dataclass(frozen=True, slots=True)
class Candidates:
    """All that System 2 answered to one prompt."""

    prompt: Prompt
    samples: Sequence[Sample]
    error: str = ""
    """Why there are no samples, where generation failed for this prompt."""


_message = pa.struct([("role", pa.string()), ("content", pa.string())])
_messages = pa.list_(_message)
_fields = pa.list_(pa.struct([("key", pa.string()), ("value", pa.string())]))
_step = pa.struct(
    [
        ("name", pa.string()),
        ("text", pa.string()),
        ("finish_reason", pa.string()),
        ("prompt_tokens", pa.int32()),
        ("cached_tokens", pa.int32()),
        ("completion_tokens", pa.int32()),
        ("seconds", pa.float32()),
        ("mean_logprob", pa.float32()),
        ("thought", pa.string()),
    ]
)
CALL_COUNTS = ("name", "prompt_tokens", "cached_tokens", "completion_tokens")
"""What a model call cost, without what it said."""
_call = pa.struct([field for field in _step if field.name in CALL_COUNTS])
_sample = pa.struct(
    [
        ("text", pa.string()),
        ("variant", pa.string()),
        ("error", pa.string()),
        ("steps", pa.list_(_step)),
    ]
)

PROMPTS = pa.schema([("prompt_id", pa.string()), ("messages", _messages), ("fields", _fields)])
LABELLED = pa.schema(
    [
        *PROMPTS,
        ("references", pa.list_(pa.string())),
        ("subset", pa.string()),
        ("group", pa.string()),
        ("cluster", pa.string()),
    ]
)
CANDIDATES = pa.schema([*PROMPTS, ("samples", pa.list_(_sample)), ("error", pa.string())])
DECISIONS = pa.schema(
    [
        *PROMPTS,
        ("status", pa.string()),
        ("target", pa.string()),
        ("reason", pa.string()),
        ("rule", pa.string()),
        ("vote_share", pa.float32()),
        ("votes", pa.list_(pa.string())),
        # Of rules that ask the model. What it said must not be near the training data.
        ("calls", pa.list_(_call)),
    ]
)
ANSWERS = pa.schema([*LABELLED, ("arm", pa.string()), ("samples", pa.list_(_sample)), ("error", pa.string())])

Row = dict[str, Any]


def prompt_to_row(prompt: Prompt) -> Row:
    """A row of schema `PROMPTS`."""
    return {
        "prompt_id": prompt.prompt_id,
        "messages": [dict(m) for m in prompt.messages],
        "fields": [{"key": k, "value": v} for k, v in prompt.fields.items()],
    }


def prompt_from_row(row: Row) -> Prompt:
    """The prompt of any row that has the columns of schema `PROMPTS`."""
    return Prompt(
        prompt_id=row["prompt_id"],
        messages=[Message(role=m["role"], content=m["content"]) for m in row["messages"] or ()],
        fields={f["key"]: f["value"] for f in row["fields"] or ()},
    )


def labelled_to_row(item: LabelledPrompt) -> Row:
    """A row of schema `LABELLED`."""
    return prompt_to_row(item.prompt) | {
        "references": list(item.references),
        "subset": item.subset,
        "group": item.group,
        "cluster": item.cluster,
    }


def labelled_from_row(row: Row) -> LabelledPrompt:
    """The labelled prompt of any row that has the columns of schema `LABELLED`.

    Rows of before there were clusters have none: those of a task that has some are refused by their digest.
    """
    cluster = row.get("cluster") or ""
    return LabelledPrompt(prompt_from_row(row), row["references"], row["subset"], row["group"], cluster)


def sample_from_row(row: Row) -> Sample:
    """A sample as stored in the `samples` column."""
    return Sample(row["text"], row["variant"], row["error"], [Step(**step) for step in row["steps"]])


def sample_to_row(sample: Sample) -> Row:
    """A sample as stored in the `samples` column."""
    # Not `asdict`: it copies deeply, which is most of what a row costs outside the engine.
    return {
        "text": sample.text,
        "variant": sample.variant,
        "error": sample.error,
        "steps": [{name: getattr(step, name) for name in Step.__slots__} for step in sample.steps],
    }


def candidates_to_row(candidates: Candidates) -> Row:
    """A row of schema `CANDIDATES`."""
    return prompt_to_row(candidates.prompt) | {
        "samples": [sample_to_row(sample) for sample in candidates.samples],
        "error": candidates.error,
    }


def candidates_from_row(row: Row) -> Candidates:
    """The candidates of a row of schema `CANDIDATES`."""
    return Candidates(prompt_from_row(row), [sample_from_row(s) for s in row["samples"]], row["error"])


def kind_of(reason: str) -> str:
    """What went wrong with a row, for logs and counts: the same text for the same kind.

    It is without the message of an exception, which may quote a prompt, and has an N for every number.
    """
    # That of UTF-8 is part of a name.
    return re.sub(r"(?<![A-Za-z]-)\b\d+(\.\d+)?\b", "N", " ".join(reason.partition(":")[0].split()))
