"""The arithmetic of `s2d plan`, against numbers worked out by hand."""

import pytest

from s2d_ray.errors import UserError
from s2d_ray.planning.sizing import Gpu, generating_seconds, generation_speed, training_seconds

BILLION = 1e9
H100 = Gpu(tokens_per_second=2000, teraflops=400)


def test_generating_takes_the_time_of_each_token_and_of_reading_what_is_not_cached() -> None:
    # 1,000,000 / 2000 s; 2 FLOPs x 70e9 x 4,000,000 tokens = 5.6e17, at 4e14 a second.
    assert generating_seconds(4e6, 1e6, 70 * BILLION, H100) == pytest.approx(500 + 1400)


def test_the_speed_that_was_measured_gives_the_time_that_was_measured() -> None:
    speed = generation_speed(read=4e6, generated=1e6, gpu_seconds=1900, parameters=70 * BILLION, teraflops=400)
    assert speed == pytest.approx(2000)
    with pytest.raises(UserError, match="higher --teraflops"):
        generation_speed(read=4e6, generated=1e6, gpu_seconds=1400, parameters=70 * BILLION, teraflops=400)


def test_training_takes_six_flops_a_parameter_and_token_and_four_with_frozen_weights() -> None:
    # 6 x 8e9 x 1e6 = 4.8e16, at 4e14 a second.
    assert training_seconds(1e6, 8 * BILLION, lora=False, checkpointing=False, teraflops=400) == pytest.approx(120)
    assert training_seconds(1e6, 8 * BILLION, lora=True, checkpointing=False, teraflops=400) == pytest.approx(80)


def test_gradient_checkpointing_computes_the_forward_pass_twice() -> None:
    assert training_seconds(1e6, 8 * BILLION, lora=False, checkpointing=True, teraflops=400) == pytest.approx(160)
    assert training_seconds(1e6, 8 * BILLION, lora=True, checkpointing=True, teraflops=400) == pytest.approx(120)
