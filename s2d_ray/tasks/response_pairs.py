"""Pairs of responses that people compared, read from the layouts in which such data is published.

Which response is A never depends on which is better, so that no position gives the verdict away.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain, combinations
from typing import Any, NamedTuple

from s2d_ray.curation.votes import majority_vote
from s2d_ray.data.records import Row, content_id
from s2d_ray.errors import UserError
from s2d_ray.methods.judgements import SWAP
from s2d_ray.tasks.conversations import said, turns_of
from s2d_ray.tasks.reading import cell, parsed
from s2d_ray.tasks.refusals import Placed, Refused, each, text_of, written


class ResponsePair(NamedTuple):
    """A question, two responses, and which of them people found better: `A`, `B`, `tie`, or `` if not known."""

    question: str
    response_a: str
    response_b: str
    verdict: str


def pairs_of(rows: Iterable[Placed]) -> Iterator[ResponsePair]:
    """The pairs of a data set in any known layout, without rows that are refused. Raises UserError for another one."""
    stream = iter(rows)
    first = next(stream)
    for columns, read in LAYOUTS.items():
        if columns <= first[1].keys():
            return read(_having(columns, chain([first], stream)))
    known = "; ".join(", ".join(sorted(columns)) for columns in LAYOUTS)
    raise UserError(f"pairs data with the columns {', '.join(first[1])} has no known layout; known are: {known}")


def _having(columns: frozenset[str], rows: Iterable[Placed]) -> Iterator[Placed]:
    """The rows, of which those in a later file may lack a column. Raises UserError there."""
    for place, row in rows:
        if not columns <= row.keys():
            missing = ", ".join(sorted(columns - row.keys()))
            raise UserError(f"{place.source} has no column {missing}; it has {', '.join(row)}")
        yield place, row


def verdict_of(value: Any) -> str:
    """What a verdict means, however it is spelled: `A`, `B`, `tie`, or `` where none is given.

    Raises Refused for any other.
    """
    text = _number(value, "verdict")
    said = re.sub(r"[\s_()\[\].,]|(?<=[a-z])-(?=[a-z])", "", text.casefold())
    if not said:
        return ""
    for verdict, spelled in VERDICTS.items():
        if spelled.fullmatch(said):
            return verdict
    raise Refused(f"no verdict is spelled so: {text[:40]}")


def _number(value: Any, column: str) -> str:
    """As written, but for the `.0` that tables add where a value is missing in another row."""
    return re.sub(r"^(\d+)\.0$", r"\1", written(value, column))


def _plain(rows: Iterable[Placed]) -> Iterator[ResponsePair]:
    """Your own: question, response_a, response_b and, where known, verdict."""
    return each(rows, partial(_pair, names=("question", "response_a", "response_b"), verdict="verdict"))


def _llmbar(rows: Iterable[Placed]) -> Iterator[ResponsePair]:
    """LLMBar: input, output_1, output_2, and the number of the better output as label."""
    return each(rows, partial(_pair, names=("input", "output_1", "output_2"), verdict="label"))


def _pair(row: Row, names: Sequence[str], verdict: str) -> ResponsePair:
    question, a, b = (text_of(row[name], name) for name in names)
    return ResponsePair(question, a, b, verdict_of(row.get(verdict)))


def _oasst_trees(rows: Iterable[Placed]) -> Iterator[ResponsePair]:
    """OpenAssistant conversation trees: the replies to the first turn, with human ranks (0 is best)."""
    return chain.from_iterable(each(rows, lambda row: _ranked(parsed(row["prompt"]), cell(row, "prompt.replies"))))


def _oasst_messages(rows: Iterable[Placed]) -> Iterator[ResponsePair]:
    """OpenAssistant as a flat table of messages: replies name their parent."""
    roots: list[Placed] = []
    replies: dict[str, list[Row]] = defaultdict(list)
    for place, row in rows:
        if row["parent_id"] is None:
            roots.append((place, row))
        elif row["rank"] is not None and row["lang"] == "en":
            replies[row["parent_id"]].append(row)
    yield from chain.from_iterable(each(roots, lambda root: _ranked(root, replies[root["message_id"]])))


def _ranked(root: Any, replies: Any) -> Sequence[ResponsePair]:
    if root is None:
        raise Refused("no prompt")
    if not isinstance(root, dict) or not all(isinstance(reply, dict) for reply in replies or ()):
        raise Refused("prompt is no tree of messages")
    if root.get("lang") != "en":
        return []
    question = text_of(root.get("text"), "text of a prompt")
    answers = [r for r in replies or () if r.get("role") == "assistant" and not _deleted(r)]
    given = [
        (text_of(reply.get("text"), "text of a reply"), _rank(reply["rank"]))
        for reply in answers
        if reply.get("rank") is not None
    ]
    # By content, not by rank: the order must not tell which one is better.
    given.sort(key=lambda reply: content_id(reply[0]))
    pairs = combinations(given, 2)
    return [ResponsePair(question, a, b, "tie" if i == j else "A" if i < j else "B") for (a, i), (b, j) in pairs]


def _rank(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise Refused("rank of a reply is no number") from None


def _deleted(reply: Row) -> bool:
    # In CSV all is text.
    return str(reply.get("deleted")).casefold() == "true"


def _mt_bench(rows: Iterable[Placed]) -> Iterator[ResponsePair]:
    """MT-Bench's human judgments, and Chatbot Arena's: the first turns.

    Several people's votes per pair become their majority, without one a tie.
    """
    verdicts: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for question, a, b, verdict in filter(None, each(rows, _vote)):
        verdicts[(question, a, b)].append(verdict)
    for pair, given in verdicts.items():
        vote = majority_vote(given, str, tie="reject")
        yield ResponsePair(*pair, vote.answer if vote else "tie")


def _vote(row: Row) -> ResponsePair | None:
    """One person's; None of a turn that is not the first."""
    if _number(row.get("turn"), "turn") not in ("", "1"):
        return None
    verdict = verdict_of(text_of(row["winner"], "winner"))
    (question, a), (other, b) = (_opening(row[name], name) for name in ("conversation_a", "conversation_b"))
    if question != other:
        raise Refused("the two conversations ask different questions")
    # One pair may be stored in both orders: the models' names decide which is A.
    if written(row["model_a"], "model_a") <= written(row["model_b"], "model_b"):
        return ResponsePair(question, a, b, verdict)
    return ResponsePair(question, b, a, SWAP[verdict])


def _opening(value: Any, column: str) -> tuple[str, str]:
    """The first turn by the user, and the answer to it."""
    turns = [turn for turn in turns_of(value, column) if turn["role"] != "system"]
    if [turn["role"] for turn in turns[:2]] != ["user", "assistant"]:
        raise Refused(f"{column} does not begin with a question and an answer")
    return said(turns[0])["content"], said(turns[1])["content"]


_SIDE = r"(?:model|response|assistant|answer|output)?(?:{x}|{n})|{x}>>?{y}|{y}<<?{x}"
VERDICTS: Mapping[str, re.Pattern[str]] = {
    "A": re.compile(_SIDE.format(x="a", n="1", y="b")),
    "B": re.compile(_SIDE.format(x="b", n="2", y="a")),
    "tie": re.compile(r"tie(?:bothbad|bothgood|inconsistent)?|both(?:bad|good)|draw|equal|same|c|a[~=]+b|b[~=]+a"),
}
"""Verdict → its spellings, in small letters, without spaces and brackets. C is what judges are told to call a tie."""
LAYOUTS: Mapping[frozenset[str], Callable[[Iterable[Placed]], Iterator[ResponsePair]]] = {
    frozenset({"question", "response_a", "response_b"}): _plain,
    frozenset({"input", "output_1", "output_2", "label"}): _llmbar,
    frozenset({"prompt", "message_tree_id"}): _oasst_trees,
    frozenset({"message_id", "parent_id", "text", "role", "lang", "rank"}): _oasst_messages,
    frozenset({"question_id", "model_a", "model_b", "winner", "conversation_a", "conversation_b"}): _mt_bench,
}
"""Columns → how to read them."""


def few_per_question(pairs: Iterable[ResponsePair], most: int) -> Sequence[ResponsePair]:
    """At most so many pairs of each question, chosen by what they say."""
    ordered = sorted(pairs, key=lambda pair: content_id(*pair[:3]))
    taken: Counter[str] = Counter()
    kept = []
    for pair in ordered:
        taken[pair.question] += 1
        if taken[pair.question] <= most:
            kept.append(pair)
    return kept
