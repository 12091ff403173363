"""The section of a recipe that says how a trace is taken away in the course of a training."""

from pydantic import Field

from s2d_ray.recipes.strict import Strict


class Internalise(Strict):
    """Stepwise internalisation (Deng et al., arXiv 2405.14838): the trained trace loses its first tokens step by step,
    until the answer stands alone.

    As there, every trace has lost equally many tokens at a step, from the left, now and then some more (`smoothing`).
    There the number grows by 8 each epoch, up to 39 on GSM8K and to all after that, in 80 epochs or 200. Here it grows
    in a straight line with the steps, up to the longest trace, so that it fits a training of any length. There the
    optimizer begins anew whenever the number grows; here it does not: in a short training that is at every step.
    """

    share: float = Field(0.6, gt=0, lt=1)
    """Of the steps, in which the traces are taken away; in the rest the answer alone is trained."""
    smoothing: float = Field(4.0, gt=0)
    """A trace loses n tokens more than the step says with a chance that falls as exp(-n * smoothing): at 4, as there,
    one in 55 loses any."""
