"""Two controllers of one experiment, as there are while a server is replaced: neither undoes the other's changes."""

from pathlib import Path

from s2d_ray.data.folders import RunFolders
from s2d_ray.experiment.controller import Controller
from s2d_ray.experiment.events import RequestEvent
from tests.serving.desks import served_recipe


def test_a_roll_back_by_the_one_is_kept_by_the_other(tmp_path: Path) -> None:
    before, after = (Controller(served_recipe(), RunFolders(tmp_path)) for _ in range(2))
    failed = [RequestEvent(str(i), 0.0, "system1", 1, i, "failed", 0.1) for i in range(40)]
    rolled_back = before.observe(failed)
    assert (rolled_back.status, rolled_back.version) == ("rolled back", 2)
    assert after.state() == rolled_back
    change = {"action": "weights", "weights": {"system1": 0.1}, "who": "ada", "why": "again", "version": 2}
    assert before.observe(failed).version == 2, "rolled back twice"
    assert after.change(change).version == 3
    assert before.observe([]).version == 3
    assert before.state().weights.system1 == 0.1
