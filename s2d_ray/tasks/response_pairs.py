"""Pairs of responses that people compared, read from the layouts in which such data is published.

Which response is A never depends on which is better, so that no position gives the verdict away.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, combinations
from typing import NamedTuple

from s2d_ray.curation.votes import majority_vote
from s2d_ray.data.records import Row, content_id
from s2d_ray.errors import UserError


class ResponsePair(NamedTuple):
    """A question, two responses, and which of them people found better: `A`, `B`, `tie`, or `` if not known."""

    question: str
    response_a: str
    response_b: str
    verdict: str


def pairs_of(rows: Iterable[Row]) -> Iterator[ResponsePair]:
    """The pairs of a data set in any known layout. Raises UserError for another one."""
    stream = iter(rows)
    first = next(stream)
    for columns, read in LAYOUTS.items():
        if columns <= first.keys():
            return read(chain([first], stream))
    known = "; ".join(", ".join(sorted(columns)) for columns in LAYOUTS)
    raise UserError(f"pairs data with the columns {', '.join(first)} has no known layout; known are: {known}")


def _plain(rows: Iterable[Row]) -> Iterator[ResponsePair]:
    """Your own: question, response_a, response_b and, where known, verdict."""
    for row in rows:
        yield ResponsePair(row["question"], row["response_a"], row["response_b"], row.get("verdict") or "")


def _llmbar(rows: Iterable[Row]) -> Iterator[ResponsePair]:
    """LLMBar: input, output_1, output_2, and the number of the better output as label."""
    for row in rows:
        yield ResponsePair(row["input"], row["output_1"], row["output_2"], {1: "A", 2: "B"}.get(row["label"], "tie"))


def _oasst_trees(rows: Iterable[Row]) -> Iterator[ResponsePair]:
    """OpenAssistant conversation trees: the replies to the first turn, with human ranks (0 is best)."""
    for row in rows:
        yield from _ranked(row["prompt"], row["prompt"].get("replies") or ())


def _oasst_messages(rows: Iterable[Row]) -> Iterator[ResponsePair]:
    """OpenAssistant as a flat table of messages: replies name their parent."""
    roots: list[Row] = []
    replies: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row["parent_id"] is None:
            roots.append(row)
        elif row["rank"] is not None and row["lang"] == "en":
            replies[row["parent_id"]].append(row)
    for root in roots:
        yield from _ranked(root, replies[root["message_id"]])


def _ranked(root: Row, replies: Iterable[Row]) -> Iterator[ResponsePair]:
    if root["lang"] != "en":
        return
    ranked = [r for r in replies if r.get("rank") is not None and r["role"] == "assistant" and not r.get("deleted")]
    # By content, not by rank: the order must not tell which one is better.
    ranked.sort(key=lambda reply: content_id(reply["text"]))
    for a, b in combinations(ranked, 2):
        verdict = "tie" if a["rank"] == b["rank"] else "A" if a["rank"] < b["rank"] else "B"
        yield ResponsePair(root["text"], a["text"], b["text"], verdict)


def _mt_bench(rows: Iterable[Row]) -> Iterator[ResponsePair]:
    """MT-Bench's human judgments: several people's votes per pair become their majority, without one a tie."""
    verdicts: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for row in rows:
        if row["turn"] == 1:
            question, responses = row["conversation_a"][0]["content"], _responses(row)
            # One pair may be stored in both orders: the models' names decide which is A.
            forth = row["model_a"] <= row["model_b"]
            winner = {"model_a": "A" if forth else "B", "model_b": "B" if forth else "A"}.get(row["winner"], "tie")
            verdicts[(question, *(responses if forth else responses[::-1]))].append(winner)
    for (question, a, b), given in verdicts.items():
        vote = majority_vote(given, str, tie="reject")
        yield ResponsePair(question, a, b, vote.answer if vote else "tie")


def _responses(row: Row) -> tuple[str, str]:
    return row["conversation_a"][1]["content"], row["conversation_b"][1]["content"]


LAYOUTS: Mapping[frozenset[str], Callable[[Iterable[Row]], Iterator[ResponsePair]]] = {
    frozenset({"question", "response_a", "response_b"}): _plain,
    frozenset({"input", "output_1", "output_2", "label"}): _llmbar,
    frozenset({"prompt", "message_tree_id"}): _oasst_trees,
    frozenset({"message_id", "parent_id", "text", "role", "lang", "rank"}): _oasst_messages,
    frozenset({"question_id", "model_a", "model_b", "winner", "conversation_a"}): _mt_bench,
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
