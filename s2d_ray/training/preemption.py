"""Nodes of a training that are about to be taken away: the reason for a checkpoint out of turn."""

import ray.train


class Preemptions:
    """What Ray Train tells the workers of nodes that are about to be taken away."""

    def __init__(self) -> None:
        self._known: frozenset[str] = frozenset()

    def told_of_another(self) -> bool:
        """Whether a node is to go of which the last call did not know. All workers ask together, as often."""
        told = ray.train.get_preemption_info()
        nodes = frozenset(told.preempted_node_ids) if told else frozenset[str]()
        another = not nodes <= self._known
        self._known |= nodes
        return another
