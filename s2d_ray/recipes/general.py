"""The section of a recipe that says what evaluation measures beside the task, and how much may get worse."""

from pydantic import Field

from s2d_ray.recipes.strict import Strict


class General(Strict):
    """What the distilled model lost, on replies and prompts that ship with the package and are not trained on."""

    items: int = Field(24, ge=2, le=38)
    """Human-written replies whose likelihood is measured, and as many prompts that are answered, before and after:
    by the round's own base and by its distilled model."""
    max_tokens: int = Field(32, ge=1)
    """Tokens at most of an answer to such a prompt, which is greedy."""
    max_fall: float = Field(0.1, ge=0)
    """Nats per token that the replies' log-likelihood may fall by; 0.1 is a perplexity higher by a tenth. More, by the
    whole 95% interval, counts as lost, and so below."""
    max_refusals: float = Field(0.05, ge=0, le=1)
    """By how much the share of refused prompts may rise."""
    max_length: float = Field(2.0, gt=1)
    """How many times as long, or as short, answers may become."""
