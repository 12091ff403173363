"""How much of a text is read for its answer."""

LONGEST = 8000
"""Characters of a text that are read at most: an answer stands at its start or its end, and no text is to take its
reader's time."""
_HEAD = 2000


def readable(text: str) -> str:
    """The text, or its first 2,000 and last 6,000 characters, about, as paragraphs of their own."""
    if len(text) <= LONGEST:
        return text
    head, tail = text[: _HEAD - len("\n\n")], text[_HEAD - LONGEST :]
    # A word that is cut in two is left out.
    return f"{head.rpartition(' ')[0] or head}\n\n{tail.partition(' ')[2] or tail}"
