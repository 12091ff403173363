"""The running sums are what a scan of the store gives, to the last bit, whatever was flushed, merged or killed."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from s2d_ray.arms import CORE_ARMS
from s2d_ray.data.files import part_files
from s2d_ray.data.storage import RemotePath
from s2d_ray.experiment import parts, sums
from s2d_ray.experiment.assignment import CELLS
from s2d_ray.experiment.events import FeedbackEvent, RequestEvent, ShadowEvent, StoredEvent
from s2d_ray.experiment.experiment import Experiment
from s2d_ray.experiment.running import RunningSums
from s2d_ray.experiment.state import Change, ExperimentState
from s2d_ray.experiment.store import KINDS, SCHEMAS, EventStore, Snapshot, journal_folder
from s2d_ray.experiment.sums import OUTCOMES, PERIODS, Sums, weights_by_version
from s2d_ray.recipes.serve import Serve, Weights
from tests.experiment.traffic import START, counted, rated


@pytest.fixture(autouse=True)
def unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    """No power is lost here, and thousands of small files would be waited for."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


def state_of(folder: Path, versions: int = 3) -> ExperimentState:
    """Whose weights have changed on the way."""
    experiment = Experiment(folder / "experiment.json", Serve(weights=Weights(student=0.1)), START)
    for version in range(1, versions):
        change = Change(action="weights", weights=Weights(student=0.1 + version / 7), who="a", why="b", version=version)
        experiment.apply(change, START)
    return experiment.state


def same(found: Sums, expected: Sums) -> None:
    """To the last bit."""
    arrays, others = found.arrays(), expected.arrays()
    assert arrays.keys() == others.keys()
    for name, array in arrays.items():
        assert np.array_equal(array, others[name]), name


def some_event(random: Random) -> StoredEvent:
    """Any; of few requests, users and times, so that they meet."""
    time = START.timestamp() + random.choice([0, 1, 59.9, 3600, 86_400, 7 * 86_400, 300 * 86_400]) + random.random()
    arm: Any = random.choice(CORE_ARMS)
    request = RequestEvent(
        request_id=f"s2d-{random.randrange(40)}",
        time=time,
        arm=arm,
        version=random.choice([None, 1, 2, 3]),
        cluster=random.choice([5, 1030, random.randrange(CELLS)]),
        outcome=random.choice(OUTCOMES),  # type: ignore[arg-type]
        seconds=random.lognormvariate(0, 3),
        first_token_seconds=random.choice([None, 0.1]),
        completion_tokens=random.randrange(100),
        cost=random.choice([None, random.random()]),
        escalated=random.random() < 0.2,
        rater=random.choice([None, 9]),
    )
    kind = random.randrange(3)
    if kind == 0:
        return request
    if kind == 1:
        return replace(rated(request, random.random()), time=time)
    agreement = random.choice([None, random.random()])
    return ShadowEvent(request.request_id, time, arm, "teacher", request.cluster, agreement, 1.0)


STEPS = ("add", "add", "add", "flush", "refresh", "keep", "restart", "merge", "another gateway", "close one")


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(STEPS), max_size=60), st.integers(0, 2**32))
def test_running_sums_are_what_a_scan_gives(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str], seed: int
) -> None:
    folder, random = tmp_path_factory.mktemp("store"), Random(seed)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(parts, "MERGED_AT_ONCE", 3)
        play(folder, steps, random)


def play(folder: Path, steps: list[str], random: Random) -> None:
    state = state_of(folder)
    gateways, written = [EventStore(folder)], list[StoredEvent]()
    running = RunningSums(folder, lambda: state)
    for step in steps:
        gateway = random.choice(gateways)
        match step:
            case "add":
                events = [some_event(random) for _ in range(random.randrange(8))]
                written += events
                for event in events:
                    gateway.add(event)
            case "flush":
                gateway.flush()
            case "refresh":
                running.refresh()
            case "keep":
                running.keep()
            case "restart":  # As after a kill: what was not kept is gone.
                running = RunningSums(folder, lambda: state)
            case "merge":
                running.merge()
            case "another gateway":
                gateways.append(EventStore(folder))
            case "close one" if len(gateways) > 1:
                gateways.remove(gateway)
                gateway.close()
    same(running.refresh(), counted_anew(folder, state))
    rows = sum(getattr(Snapshot(folder), kind).count_rows() for kind in ("requests", "feedback", "shadows"))
    assert rows == len(written)
    for gateway in gateways:
        gateway.close()
    same(running.refresh(), by_hand(written, state))


def counted_anew(folder: Path, state: ExperimentState) -> Sums:
    kept = folder / "sums.npz"
    content = kept.read_bytes() if kept.exists() else None
    kept.unlink(missing_ok=True)
    found = counted(folder, state)
    if content is not None:
        kept.write_bytes(content)
    return found


def by_hand(events: list[StoredEvent], state: ExperimentState) -> Sums:
    """One event after the other, without a store; in another order than they were written in."""
    found, weights = Sums(round(state.started.timestamp() * 1e6)), weights_by_version(state)
    adds: Mapping[str, Any] = {
        "requests": lambda batch: found.add_requests(batch, weights),
        "feedback": lambda batch: found.add_feedback(batch, weights),
        "shadows": found.add_shadows,
    }
    for event in reversed(events):
        kind = KINDS[type(event)]
        row = {name: getattr(event, name) for name in SCHEMAS[kind].names} | {"time": round(event.time * 1e6)}
        adds[kind](pa.RecordBatch.from_pylist([row], SCHEMAS[kind]))
    return found


def request(number: int) -> RequestEvent:
    return RequestEvent(f"s2d-{number}", START.timestamp() + number, "student", 1, 1024 + number, "answered", 0.25)


def flushed(folder: Path, numbers: range) -> None:
    """A part for each."""
    store = EventStore(folder)
    for number in numbers:
        store.add(request(number))
        store.add(rated(request(number), 1.0))
        store.flush()
    store.close()


def test_many_parts_become_few_and_no_event_is_lost(tmp_path: Path) -> None:
    state = state_of(tmp_path)
    flushed(tmp_path, range(2 * parts.MERGED_AT_ONCE + 5))
    before, running = counted(tmp_path, state), RunningSums(tmp_path, lambda: state)
    running.refresh()
    running.merge()
    for kind in ("requests", "feedback"):
        assert len(part_files(tmp_path / kind)) == 2 + 5
        assert pq.read_table(tmp_path / kind).num_rows == 2 * parts.MERGED_AT_ONCE + 5
    same(running.refresh(), before)
    same(counted(tmp_path, state), before)


@pytest.mark.parametrize("killed_at", ["the first part is removed", "all but one are"])
def test_a_kill_while_parts_are_merged_doubles_nothing(
    tmp_path: Path, killed_at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "MERGED_AT_ONCE", 4)
    state = state_of(tmp_path)
    flushed(tmp_path, range(4))
    before, running = counted(tmp_path, state), RunningSums(tmp_path, lambda: state)
    removed = list[Path]()

    def unlink(path: Path, missing_ok: bool = False) -> None:
        if len(removed) == (0 if killed_at == "the first part is removed" else 3):
            raise KeyboardInterrupt
        removed.append(path)
        real(path, missing_ok)

    real = Path.unlink
    with monkeypatch.context() as killing, pytest.raises(KeyboardInterrupt):
        killing.setattr(Path, "unlink", unlink)
        running.merge()
    assert len(part_files(tmp_path / "requests")) == 5 - len(removed)
    assert Snapshot(tmp_path).requests.count_rows() == 4
    same(running.refresh(), before)
    same(counted(tmp_path, state), before)
    running.merge()
    assert len(part_files(tmp_path / "requests")) == 1
    same(running.refresh(), before)


def test_a_part_that_comes_while_absorbed_ones_are_removed_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "MERGED_AT_ONCE", 4)
    state, come = state_of(tmp_path), iter(range(4, 100))
    flushed(tmp_path, range(4))
    running = RunningSums(tmp_path, lambda: state)
    living = parts.PartFolder.living

    def living_and_then_more(folder: parts.PartFolder) -> Sequence[Path]:
        found = living(folder)
        number = next(come)
        flushed(tmp_path, range(number, number + 1))
        return found

    with monkeypatch.context() as beside:
        beside.setattr(parts.PartFolder, "living", living_and_then_more)
        running.merge()
    assert pq.read_table(tmp_path / "requests").num_rows == next(come)


def test_a_part_of_a_journal_that_is_still_there_is_not_merged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its writer was killed before it removed the journal, and what comes next writes the part again."""
    monkeypatch.setattr(parts, "MERGED_AT_ONCE", 1)
    state = state_of(tmp_path)
    flushed(tmp_path, range(1))
    [part] = part_files(tmp_path / "requests")
    journal = journal_folder(tmp_path) / f"{part.stem}.jsonl"
    journal.touch()
    running = RunningSums(tmp_path, lambda: state)
    running.merge()
    assert part_files(tmp_path / "requests") == [part]
    journal.unlink()
    running.merge()
    assert part.stem in parts.open_part(part_files(tmp_path / "requests")[0]).rows


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 and no more", None])
def test_sums_that_cannot_be_read_are_counted_anew(tmp_path: Path, content: bytes | None) -> None:
    state = state_of(tmp_path)
    flushed(tmp_path, range(3))
    running = RunningSums(tmp_path, lambda: state)
    expected = running.refresh()
    running.keep()
    kept = tmp_path / "sums.npz"
    kept.write_bytes(kept.read_bytes()[:500] if content is None else content)
    same(counted(tmp_path, state), expected)


def test_sums_of_another_experiment_are_not_gone_on_with(tmp_path: Path) -> None:
    state = state_of(tmp_path)
    flushed(tmp_path, range(3))
    running = RunningSums(tmp_path, lambda: state)
    running.refresh()
    running.keep()
    first = state.revisions[0].model_copy(update={"at": START + timedelta(hours=1)})
    later = state.model_copy(update={"revisions": (first, *state.revisions[1:])})
    assert RunningSums(tmp_path, lambda: later).sums.outcomes.sum() == 0


def test_after_a_restart_nothing_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = state_of(tmp_path)
    flushed(tmp_path, range(5))
    running = RunningSums(tmp_path, lambda: state)
    expected = running.refresh()
    running.keep()
    again = RunningSums(tmp_path, lambda: state)
    monkeypatch.setattr(Sums, "add_requests", lambda *_: pytest.fail("counted again"))
    same(again.refresh(), expected)


def test_sums_in_object_storage_are_kept_there(remote: RemotePath) -> None:
    state = state_of(remote)
    flushed(remote, range(3))
    running = RunningSums(remote, lambda: state)
    expected = running.refresh()
    running.keep()
    assert (remote / "sums.npz").exists()
    same(RunningSums(remote, lambda: state).refresh(), expected)


def test_weights_that_are_newer_than_the_state_that_was_read_are_looked_up(tmp_path: Path) -> None:
    old, new = state_of(tmp_path, 1), state_of(tmp_path / "new", 3)
    states = iter([old, new])
    store = EventStore(tmp_path)
    running = RunningSums(tmp_path, lambda: next(states))
    store.add(replace(request(0), version=3))
    student = CORE_ARMS.index("student")
    weight = running.refresh().weighted_answers[student].sum() / sums.WEIGHT
    assert weight == pytest.approx(new.weights.teacher, abs=1e-6)
    store.close()


def test_periods_become_longer_and_keep_every_rating(tmp_path: Path) -> None:
    state = state_of(tmp_path)
    store = EventStore(tmp_path)
    ages = [60.0 * 1.5**i for i in range(40)]
    for number, age in enumerate(ages):
        store.add(replace(rated(request(number), 1.0), time=START.timestamp() + age))
    store.close()
    found = counted(tmp_path, state)
    period = found.period_seconds
    assert period * PERIODS / 2 <= max(ages) < period * PERIODS
    by_period = found.ratings.sum((0, 2))
    assert by_period.tolist() == np.bincount([int(age / period) for age in ages], minlength=PERIODS).tolist()


def test_forgotten_ratings_are_in_the_sums_and_new_ones_still_once(tmp_path: Path) -> None:
    state = state_of(tmp_path)
    store = EventStore(tmp_path)
    running = RunningSums(tmp_path, lambda: state)
    old, new = rated(request(0), 1.0), rated(request(1000), 1.0)
    store.add(old)
    store.add(new)
    running.refresh()
    running.forget(old.time + 1)
    store.add(FeedbackEvent(new.request_id, new.time + 1, 0.0, new.arm, new.version, new.rater))
    found = running.refresh()
    assert (len(found.rated.ratings), found.ratings.sum(), found.scores.sum()) == (1, 2, 2 * sums.SCORE)
    store.close()
