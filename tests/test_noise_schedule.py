import math

import numpy as np
import pytest

from pillow_sdc.models import NoiseSchedule

SCHEDULE = NoiseSchedule.scaled_linear()


@pytest.mark.parametrize(
    ("noise_variance", "timestep"),
    [(0.005, 4.803), (0.01, 10.382), (0.02, 20.988), (0.035, 35.716), (0.05, 49.235), (0.1, 87.801)],
)
def test_noise_belongs_to_the_timesteps_of_the_design_table(noise_variance: float, timestep: float) -> None:
    assert SCHEDULE.timestep_of(noise_variance) == pytest.approx(timestep, abs=5e-4)


@pytest.mark.parametrize("noise_variance", [0.0, -1.0, 0.00084, math.nan])
def test_noise_below_the_first_timesteps_is_nothing_to_remove(noise_variance: float) -> None:
    assert SCHEDULE.timestep_of(noise_variance) is None


@pytest.mark.parametrize("noise_variance", [1e4, math.inf])
def test_noise_above_the_last_timesteps_is_clamped(noise_variance: float) -> None:
    assert SCHEDULE.timestep_of(noise_variance) == 999.0


def test_the_least_noise_belongs_to_timestep_zero() -> None:
    least = (1 - SCHEDULE.alphas_cumprod[0]) / SCHEDULE.alphas_cumprod[0]
    assert SCHEDULE.timestep_of(least * (1 + 1e-12)) == pytest.approx(0.0, abs=1e-6)


def test_alpha_at_whole_timesteps_is_the_schedules_own() -> None:
    alphas = [SCHEDULE.alpha_cumprod(t) for t in range(1000)]
    np.testing.assert_allclose(alphas, SCHEDULE.alphas_cumprod, rtol=1e-12)


@pytest.mark.parametrize("noise_variance", [0.001, 0.0123, 0.5, 20.0])
def test_alpha_and_timestep_are_inverse_to_each_other(noise_variance: float) -> None:
    timestep = SCHEDULE.timestep_of(noise_variance)
    assert timestep is not None
    alpha = SCHEDULE.alpha_cumprod(timestep)
    assert (1 - alpha) / alpha == pytest.approx(noise_variance, rel=1e-9)


@pytest.mark.parametrize("alphas", [[], [0.5, 0.5], [1.0, 0.5], [0.5, 0.0], [0.9, math.nan], [[0.9, 0.5]]])
def test_a_sequence_that_does_not_fall_between_one_and_zero_is_refused(alphas: list[float]) -> None:
    with pytest.raises(ValueError, match="fall strictly"):
        NoiseSchedule(np.array(alphas))
