"""What is said of files that have the suffix ``.sdc`` and nothing else of SDC."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, UnidentifiedImageError

import pillow_sdc
from pillow_sdc.format import container, signatures


def by_pillow(file_format: str, **save_options: Any) -> bytes:
    if file_format not in Image.SAVE:
        Image.init()
    if file_format not in Image.SAVE:
        pytest.skip(f"this Pillow does not write {file_format}")
    file = io.BytesIO()
    Image.new("RGB", (40, 30)).save(file, file_format, **save_options)
    return file.getvalue()


SDC = container.write(container.Header(8, 8, "L", "uint8"), bytes(9))
KINDS: dict[str, Callable[[], bytes]] = {
    "a PNG": lambda: by_pillow("PNG"),
    "a JPEG": lambda: by_pillow("JPEG"),
    "a GIF": lambda: by_pillow("GIF"),
    "a WebP": lambda: by_pillow("WEBP"),
    "an AVIF": lambda: by_pillow("AVIF"),
    "a TIFF": lambda: by_pillow("TIFF"),
    "a BMP": lambda: by_pillow("BMP"),
    "a PDF": lambda: by_pillow("PDF"),
    "a HEIC": lambda: b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
    "a JPEG XL": lambda: b"\xff\x0a\xfa\x1f" + bytes(30),
    "an office document": lambda: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(30),
    "a ZIP archive": lambda: b"PK\x03\x04" + bytes(30),
    "a Git LFS pointer": lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n",
    "an HTML page": lambda: b"\n<!DOCTYPE html><title>404</title>",
    "an empty file": lambda: b"",
    "an SDC file that was damaged in a transfer as text": lambda: SDC.replace(b"\r\n", b"\n"),
}

every_kind = pytest.mark.parametrize("kind", KINDS)
USES: dict[str, Callable[[Any], object]] = {
    "info": pillow_sdc.info,
    "read_latents": pillow_sdc.read_latents,
    "read_preview": pillow_sdc.read_preview,
}


@every_kind
def test_what_is_not_sdc_is_called_what_it_is(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "file.sdc"
    path.write_bytes(KINDS[kind]())
    for use in USES.values():
        for source in (path, path.read_bytes(), io.BytesIO(path.read_bytes())):
            with pytest.raises(pillow_sdc.NotSdcError, match=f"^not an SDC file, but {kind}"):
                use(source)
    with pytest.raises(UnidentifiedImageError, match=f"^not an SDC file, but {kind}"):
        pillow_sdc.decode(path)
    with pytest.raises(pillow_sdc.BatchError, match=f": not an SDC file, but {kind}"):
        pillow_sdc.decode_batch([path])


@pytest.mark.parametrize("head", [b"a", b"BM", b"text of some length, and of no format", bytes(40)])
def test_what_is_of_no_known_kind_is_said_not_to_be_sdc_and_no_more(head: bytes) -> None:
    with pytest.raises(pillow_sdc.NotSdcError, match=r"^not an SDC file$"):
        pillow_sdc.info(head)


def test_an_sdc_file_is_of_none_of_these_kinds() -> None:
    container.check_signature(SDC)
    assert signatures.kind_of(b"\x88SDC" + SDC[4:]) is None
