"""Latents from .sdc files straight into diffusers: as a training batch, and as the start of img2img.

    python examples/latents_into_diffusers.py [FOLDER]

No decoder and no VAE runs between the file and the U-Net. The U-Net here is tiny, has random weights and sees a few
batches only, so that the example runs anywhere in seconds: it shows the way, and its pictures are noise. In its place
put the U-Net of Stable Diffusion (``UNet2DConditionModel.from_pretrained(model, subfolder="unet")``, which also wants
the encoded prompt). diffusers' pipeline takes latents as well, in place of a picture:

    pipe = StableDiffusionImg2ImgPipeline.from_pretrained("CompVis/stable-diffusion-v1-4")
    pipe("a watercolour of a cat", image=torch.from_numpy(latents)[None], strength=0.6).images[0]
"""

import os
import sys
from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMScheduler, DDPMScheduler, UNet2DModel
from PIL import Image
from skimage.data import astronaut, chelsea, coffee
from torch.nn.functional import mse_loss

import pillow_sdc

os.environ.setdefault("PILLOW_SDC_MODEL", "compact")
SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}  # that of Stable Diffusion v1
STEPS, STRENGTH = 20, 0.6


def train(unet: UNet2DModel, latents: torch.Tensor, steps: int) -> list[float]:
    """Teach a U-Net to predict the noise in noisy latents; return the losses."""
    scheduler, optimiser = DDPMScheduler(**SCHEDULE), torch.optim.AdamW(unet.parameters(), 2e-3)
    losses = []
    for _ in range(steps):
        timesteps = torch.randint(0, 1000, (len(latents),))
        noise = torch.randn_like(latents)
        loss = mse_loss(unet(scheduler.add_noise(latents, noise, timesteps), timesteps).sample, noise)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


@torch.no_grad()
def image_to_image(unet: UNet2DModel, latents: torch.Tensor, steps: int, strength: float) -> torch.Tensor:
    """Add the noise that ``strength`` asks for, and remove it again, as img2img pipelines do between VAE calls."""
    scheduler = DDIMScheduler(**SCHEDULE, clip_sample=False, set_alpha_to_one=False, steps_offset=1)
    scheduler.set_timesteps(steps)
    timesteps = scheduler.timesteps[round(steps * (1 - strength)) :]
    latents = scheduler.add_noise(latents, torch.randn_like(latents), timesteps[:1])
    for timestep in timesteps:
        latents = scheduler.step(unet(latents, timestep).sample, timestep, latents).prev_sample
    return latents


def main() -> None:
    out = Path(*sys.argv[1:] or ["out"])
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    for picture in (astronaut, chelsea, coffee):
        Image.fromarray(picture()[:256, :256]).save(out / f"{picture.__name__}-256.sdc")

    batch = torch.from_numpy(np.stack([pillow_sdc.read_latents(path) for path in sorted(out.glob("*-256.sdc"))]))
    print(f"training batch {tuple(batch.shape)}, {batch.dtype}, standard deviation {batch.std().item():.2f}")
    blocks = {"down_block_types": ["DownBlock2D"] * 2, "up_block_types": ["UpBlock2D"] * 2}
    unet = UNet2DModel(32, 4, 4, block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=8, **blocks)
    losses = train(unet, batch, STEPS)
    print(f"{STEPS} steps     loss from {np.mean(losses[:5]):.3f} to {np.mean(losses[-5:]):.3f}, means of five")

    changed = image_to_image(unet, batch[:1], steps=10, strength=STRENGTH)
    np.save(out / "img2img-latents.npy", changed.numpy())
    print(f"img2img        {tuple(changed.shape)} at strength {STRENGTH}, in {out / 'img2img-latents.npy'}")
    print("               (vae.decode(latents / vae.config.scaling_factor) of your pipeline makes a picture of them)")


if __name__ == "__main__":
    main()
