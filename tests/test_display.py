"""What notebooks show of latents and of what files say, and that these are else what they were."""

import base64
import copy
import io
import pickle
import re
import subprocess
import sys

import html5lib
import numpy as np
import pytest
from locations import GOLDEN
from PIL import Image

import pillow_sdc
from pillow_sdc.api.display import MAX_SIDE, Latents, grey, table

FILE = GOLDEN / "palette-rgb-200x150.sdc"


def html_of(value: object) -> str:
    """Return what a notebook shows of a value, by IPython's own rules."""
    from IPython.core.formatters import HTMLFormatter

    text = HTMLFormatter()(value)
    assert text is not None
    html5lib.HTMLParser(strict=True).parseFragment(text)
    return str(text)


def pictures_in(html: str) -> list[Image.Image]:
    data = re.findall(r"src=\"data:image/png;base64,([^\"]+)\"", html)
    return [Image.open(io.BytesIO(base64.b64decode(each))) for each in data]


def test_a_file_is_a_table_of_what_it_says() -> None:
    info = pillow_sdc.info(FILE)
    html = html_of(info)
    cells = dict(re.findall("<th>(.*?)</th><td>(.*?)</td>", html))
    assert (cells["width"], cells["height"], cells["mode"], cells["codec"]) == ("200", "150", "RGB", "palette")
    assert cells["file bytes"] == f"{info.file_bytes:,}"
    assert len(cells) == len(info)
    assert isinstance(info, tuple)


def test_latents_are_a_preview_and_four_channels() -> None:
    latents = pillow_sdc.read_latents(FILE)
    html = html_of(latents)
    pictures = pictures_in(html)
    assert [picture.size for picture in pictures] == [(25, 19)] * 5
    assert [picture.mode for picture in pictures] == ["RGB", *["L"] * 4]
    np.testing.assert_array_equal(pictures[1], grey(np.asarray(latents)[0]))
    assert "float32 latents, 4×19×25, SD-scaled" in html
    assert f"channel 3: {latents[3].min():.2f} to {latents[3].max():.2f}" in html


def test_many_latents_are_shown_reduced() -> None:
    html = html_of(np.zeros((4, 3, 4 * MAX_SIDE), np.float32).view(Latents))
    assert {picture.size for picture in pictures_in(html)} == {(MAX_SIDE, 1)}


def test_encoded_latents_are_shown_too() -> None:
    with pillow_sdc.configure(model="compact"):
        latents = pillow_sdc.encode_latents(Image.new("RGB", (16, 8), "red"))
    assert len(pictures_in(html_of(latents))) == 5


@pytest.mark.parametrize(
    "value",
    [np.zeros((4, 2), np.float32), np.zeros((3, 2, 2), np.float32), np.zeros((4, 0, 2)), np.full((4, 2, 2), np.nan)],
)
def test_what_are_no_latents_is_shown_as_an_array(value: np.ndarray) -> None:
    assert value.view(Latents)._repr_html_() is None


def test_latents_are_arrays_like_any_others() -> None:
    latents = pillow_sdc.read_latents(FILE)
    plain = np.asarray(latents)
    assert type(plain) is np.ndarray
    assert repr(latents) == repr(plain)
    assert str(latents) == str(plain)
    for result in (latents * 2, -latents, np.exp(latents), latents + latents, latents > 0, latents.mean(axis=0)):
        assert type(result) is np.ndarray
    assert isinstance(latents.sum(), np.float32)
    assert (latents == plain).all()
    assert latents.dtype == np.float32
    assert latents.flags.writeable
    for again in (pickle.loads(pickle.dumps(latents)), copy.deepcopy(latents)):
        np.testing.assert_array_equal(again, plain)
    assert type(pickle.loads(pickle.dumps(latents))) is np.ndarray


def test_torch_takes_latents() -> None:
    import torch

    latents = pillow_sdc.read_latents(FILE)
    tensor = torch.from_numpy(latents)
    assert torch.equal(tensor, torch.from_numpy(np.asarray(latents)))
    batch = torch.utils.data.default_collate([latents, latents])
    assert batch.shape == (2, 4, 19, 25)


def test_pickles_need_nothing_of_the_package() -> None:
    data = pickle.dumps(pillow_sdc.read_latents(FILE))
    program = "import pickle, sys; pickle.load(sys.stdin.buffer); assert 'pillow_sdc.api' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], input=data, check=True)


def test_what_is_text_stays_text() -> None:
    assert table({"<b>": '<img src=x onerror="alert(1)">'}) == (
        "<table><tr><th>&lt;b&gt;</th><td>&lt;img src=x onerror=&quot;alert(1)&quot;&gt;</td></tr></table>"
    )
