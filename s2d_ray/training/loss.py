"""The loss on the targets of packed rows, without ever holding all their logits in float32.

With a vocabulary of 128,000 the logits of 2,000 tokens are 1 GB in float32, and the way back holds several of that
size. So where there are many, they are made and scored some tokens at a time, and made again on the way back.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

from s2d_ray.training import schedule
from s2d_ray.training.encoding import Packed


class TargetLoss:
    """The loss of a model on packed rows.

    It is computed inside the model's output layer, which then gives the loss in place of logits: there ZeRO-3 has the
    layer's weights gathered, on the way forth and back. Not where an adapter is on that layer, or where the model
    changes its logits afterwards, as one with soft-capped logits does: these then exist, in the model's number format.
    """

    def __init__(self, model: Any) -> None:
        self._head = model.get_output_embeddings()
        self._targets = self._weights = torch.empty(0)
        self._inside, self._proven = type(self._head) is torch.nn.Linear, False
        if self._inside:
            self._logits = self._head.forward
            self._head.forward = self._in_place_of_logits

    def __call__(self, model: Any, row: Packed) -> torch.Tensor:
        """Per example the mean over its target tokens, summed over the examples of the row.

        So each example weighs the same however long its target is and however the batch is dealt out.
        """
        self._targets = torch.tensor(row.targets, device=model.device)
        self._weights = torch.tensor(row.weights, device=model.device)
        found = model(
            input_ids=torch.tensor([row.input_ids], device=model.device),
            position_ids=torch.tensor([row.position_ids], device=model.device),
            logits_to_keep=torch.tensor(row.predicting, device=model.device),
            use_cache=False,
        ).logits
        if not self._inside:
            return _summed(found[0], self._targets, self._weights, lambda logits: logits, found.shape[-1])
        loss: torch.Tensor
        loss, one = found.flatten()
        if not self._proven:
            self._proven = bool(one == 1)
            if not self._proven:
                del self._head.forward
                self._inside = False
                return self(model, row)
        return loss

    def _in_place_of_logits(self, states: torch.Tensor) -> torch.Tensor:
        """The loss, and a 1 that shows whether the model changes what it takes for logits; shape [1, 1, 2]."""
        loss = _summed(states[0], self._targets, self._weights, self._logits, self._head.out_features)
        return torch.stack([loss, torch.ones_like(loss)])[None, None]


def _summed(
    states: torch.Tensor,
    targets: torch.Tensor,
    weights: torch.Tensor,
    to_logits: Callable[[torch.Tensor], torch.Tensor],
    vocabulary: int,
) -> torch.Tensor:
    """The cross-entropy of states, shape [tokens, anything], summed over the tokens by their weights."""

    def part(states: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        return cross_entropy(to_logits(states).float(), targets, reduction="none") @ weights

    tokens = max(1, schedule.LOSS_LOGITS // vocabulary)
    if len(targets) <= tokens:
        return part(states, targets, weights)
    parts = zip(states.split(tokens), targets.split(tokens), weights.split(tokens), strict=True)
    # There is nothing random in it.
    losses = [checkpoint(part, *p, use_reentrant=False, preserve_rng_state=False) for p in parts]
    return torch.stack(losses).sum()
