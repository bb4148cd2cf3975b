from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tiny_pipeline import SCHEDULER_CONFIG

from pillow_sdc.models import Denoiser, NoiseSchedule, denoise, get_models
from pillow_sdc.models.denoising import follow_timesteps
from pillow_sdc.options import Settings

Latents = NDArray[np.float32]


class SmoothDenoiser:
    """Predicts something that depends on all arguments of a denoiser, and remembers the timesteps."""

    name = "smooth"
    schedule = NoiseSchedule.scaled_linear()

    def __init__(self) -> None:
        self.timesteps: list[float] = []

    def predict_noise(self, diffused: Latents, timestep: float) -> Latents:
        self.timesteps.append(timestep)
        return np.tanh(diffused[::-1] + np.float32(timestep / 1000))


@pytest.fixture
def latents() -> Latents:
    return np.random.default_rng(0).standard_normal((4, 6, 5)).astype(np.float32)


@pytest.fixture
def tiny_denoiser(tiny_pipeline: Path, hub_cache: Path) -> Denoiser:
    denoiser = get_models(Settings(model=str(tiny_pipeline), device="cpu")).denoiser
    assert denoiser is not None
    return denoiser


def ddim_scheduler(**changes: object) -> Any:
    from diffusers import DDIMScheduler

    return DDIMScheduler.from_config({**SCHEDULER_CONFIG, **changes})


def test_the_denoiser_is_asked_at_evenly_spaced_timesteps_down_to_zero(latents: Latents) -> None:
    denoiser = SmoothDenoiser()
    denoised = denoise(latents, 0.035, denoiser, 4)
    assert denoiser.timesteps == pytest.approx([35.7157, 23.8105, 11.9052, 0.0], abs=1e-3)
    assert denoised.dtype == np.float32
    assert denoised.shape == latents.shape


def test_one_step_returns_what_the_denoiser_sees_behind_the_noise(latents: Latents) -> None:
    denoiser = SmoothDenoiser()
    alpha = denoiser.schedule.alpha_cumprod(10.382)
    noise = denoiser.predict_noise(np.float32(np.sqrt(alpha)) * latents, 10.382)
    expected = latents - np.sqrt((1 - alpha) / alpha) * noise
    np.testing.assert_allclose(denoise(latents, 0.01, denoiser, 1), expected, atol=1e-4)


@pytest.mark.parametrize(("noise_variance", "steps"), [(0.035, 0), (9.2e-5, 4), (0.0, 4)])
def test_without_steps_or_noise_latents_stay_as_they_are(latents: Latents, noise_variance: float, steps: int) -> None:
    denoiser = SmoothDenoiser()
    assert denoise(latents, noise_variance, denoiser, steps) is latents
    assert denoiser.timesteps == []


def test_the_steps_agree_with_diffusers_ddim_scheduler(latents: Latents) -> None:
    import torch

    denoiser = SmoothDenoiser()
    scheduler = ddim_scheduler()
    scheduler.set_timesteps(100)
    timesteps = scheduler.timesteps[-4:].tolist()
    assert timesteps == [31, 21, 11, 1]
    sample = torch.from_numpy(latents)
    for timestep in timesteps:
        noise = torch.from_numpy(denoiser.predict_noise(sample.numpy(), timestep))
        step = scheduler.step(noise, timestep, sample)
        sample = step.prev_sample
    ours = follow_timesteps(latents, timesteps, denoiser)
    np.testing.assert_allclose(ours, step.pred_original_sample.numpy(), atol=1e-5)


def test_the_result_agrees_with_diffusers_image_to_image_pipeline(
    latents: Latents, tiny_pipeline: Path, tiny_denoiser: Denoiser
) -> None:
    import torch
    from diffusers import AutoencoderKL, StableDiffusionImg2ImgPipeline, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

    clean = latents[:, :4, :4]
    pipeline = StableDiffusionImg2ImgPipeline(
        vae=AutoencoderKL.from_pretrained(tiny_pipeline / "vae"),
        unet=UNet2DConditionModel.from_pretrained(tiny_pipeline / "unet"),
        text_encoder=CLIPTextModel.from_pretrained(tiny_pipeline / "text_encoder", dtype=torch.float32),
        tokenizer=CLIPTokenizer.from_pretrained(tiny_pipeline / "tokenizer"),
        scheduler=ddim_scheduler(set_alpha_to_one=True),  # the last step returns x₀
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(
        prompt="",
        image=torch.from_numpy(clean)[None],
        strength=0.04,
        num_inference_steps=100,
        guidance_scale=1.0,
        generator=torch.Generator().manual_seed(7),
        output_type="latent",
    ).images[0]

    noise = torch.randn((1, 4, 4, 4), generator=torch.Generator().manual_seed(7))[0].numpy()
    alpha = tiny_denoiser.schedule.alpha_cumprod(31)
    diffused = np.float32(np.sqrt(alpha)) * clean + np.float32(np.sqrt(1 - alpha)) * noise
    ours = follow_timesteps(diffused, [31, 21, 11, 1], tiny_denoiser)
    np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-5)
