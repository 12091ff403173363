"""How much of a text is read for its answer."""

LONGEST = 16_000
"""Characters of a text that are read at most: an answer stands at its start or its end, and no text is to take its
reader's time."""


def readable(text: str) -> str:
    """The text, or its first and last 8,000 characters as paragraphs of their own."""
    if len(text) <= LONGEST:
        return text
    head, tail = text[: LONGEST // 2], text[-LONGEST // 2 :]
    # A word that is cut in two is left out.
    return f"{head.rpartition(' ')[0] or head}\n\n{tail.partition(' ')[2] or tail}"
