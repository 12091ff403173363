"""The stages of a run by name, in the order in which they run."""

from collections.abc import Mapping

STAGES: Mapping[str, str] = {
    "ingest": "The unlabelled prompts and the held-out ones, read once, told apart and written.",
    "generate": "System 2 answers the unlabelled prompts; for a control, System 1 does.",
    "curate": "Each prompt's candidates become a target or a rejection, without labels.",
    "train": "The base model learns the targets of all parts together, where there are any.",
    "evaluate": "Every arm answers the held-out prompts.",
    "report": "What came of it, for people and for programs.",
}
"""Stage → what it does."""
