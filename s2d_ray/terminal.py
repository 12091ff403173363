"""The one console that this package speaks to a person through."""

from rich.console import Console

console = Console(highlight=False, soft_wrap=True)
