"""Time is counted for what it was spent on, in seconds and in GPU-seconds."""

import time
from pathlib import Path

from s2d_ray.data.artifacts import Artifact
from s2d_ray.data.lease import time_spent
from s2d_ray.data.manifests import CandidatesManifest
from s2d_ray.data.status import attempting
from s2d_ray.data.work import TimeSpent
from tests.manifests import candidates_manifest, write_lease


def test_time_is_counted_for_the_artifact_that_is_made_over_all_attempts(tmp_path: Path) -> None:
    candidates = Artifact(tmp_path / "candidates", {}, CandidatesManifest)
    control = Artifact(tmp_path / "controls" / "votes" / "candidates", {}, CandidatesManifest)
    begin = time.monotonic()
    with attempting(tmp_path, beat=0.05) as attempt:
        candidates.open()  # As before the stages: nothing is made yet.
        time.sleep(0.3)
        attempt.use_gpus(8)
        with attempt.stage("generate"):
            candidates.open()
            time.sleep(0.3)
    first = time.monotonic() - begin
    with attempting(tmp_path) as attempt, attempt.stage("generate"):
        candidates.open()
        time.sleep(0.2)
        candidates.finish(candidates_manifest())
        control.open()
        time.sleep(0.1)
        control.finish(candidates_manifest())
        time.sleep(0.3)
        assert candidates.open(), "what is finished takes no time"
        time.sleep(0.1)
    both = time.monotonic() - begin
    found = time_spent(tmp_path)
    assert found.keys() == {"candidates", "controls/votes/candidates"}
    # At least what was slept for it, at most what was not slept for something else: a busy machine takes longer.
    assert 0.5 <= found["candidates"].seconds <= both - 0.8
    assert 8 * 0.3 <= found["candidates"].gpu_seconds <= 8 * (first - 0.3)
    assert 0.1 <= found["controls/votes/candidates"].seconds <= both - 1.2


def test_the_times_of_all_attempts_are_added_up_those_of_before_too(tmp_path: Path) -> None:
    for number, schema in ((1, {}), (2, {"schema_version": 1})):
        write_lease(tmp_path, {"model": {"seconds": 2.0, "gpu_seconds": 8.0}}, number, **schema)
    write_lease(tmp_path, {"candidates": {"seconds": 1.0, "gpu_seconds": 0.0}}, 3)
    assert time_spent(tmp_path) == {"model": TimeSpent(4.0, 16.0), "candidates": TimeSpent(1.0)}
    assert TimeSpent(4.0, 16.0).share(0.25) == TimeSpent(1.0, 4.0)
