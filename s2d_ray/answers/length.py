"""How much of a text is read: a model that repeats itself to its token limit must not keep a reader busy."""

MOST = 16_000
"""Characters; an answer stands at the beginning or the end of a longer text."""


def bounded(text: str) -> str:
    """The text; of one longer than `MOST` the first and the last half of that, as lines of their own."""
    return text if len(text) <= MOST else f"{text[: MOST // 2]}\n{text[-MOST // 2 :]}"
