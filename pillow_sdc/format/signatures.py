"""Recognises files that have the suffix ``.sdc`` but another format, by their first bytes."""

import re

_KINDS: tuple[tuple[re.Pattern[bytes], str], ...] = (
    (re.compile(rb"\Z"), "an empty file"),
    (re.compile(rb"[\x89\x09]SDC"), "an SDC file that was damaged in a transfer as text"),
    (re.compile(rb"\x89PNG"), "a PNG"),
    (re.compile(rb"\xff\xd8\xff"), "a JPEG"),
    (re.compile(rb"GIF8"), "a GIF"),
    (re.compile(rb"RIFF.{4}WEBP", re.DOTALL), "a WebP"),
    (re.compile(rb".{4}ftypavi[fs]", re.DOTALL), "an AVIF"),
    (re.compile(rb".{4}ftyp(hei|hev|mif|msf)", re.DOTALL), "a HEIC"),
    (re.compile(rb"\xff\x0a|\0\0\0\x0cJXL "), "a JPEG XL"),
    (re.compile(rb"II\*\0|MM\0\*"), "a TIFF"),
    (re.compile(rb"BM.{4}\0{4}", re.DOTALL), "a BMP"),
    (re.compile(rb"%PDF-"), "a PDF"),
    (re.compile(rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"), "an office document"),  # StarOffice Calc's suffix is .sdc, too
    (re.compile(rb"PK\x03\x04"), "a ZIP archive"),
    (re.compile(rb"version https://"), "a Git LFS pointer, to be replaced by git lfs pull"),
    (re.compile(rb"\s*<(!doctype|html)", re.IGNORECASE), "an HTML page"),
)
"""Patterns of the first bytes, and the names of the formats for messages."""


def kind_of(head: bytes) -> str | None:
    """Return a file's format, with an article, from its first 16 bytes or more; ``None`` if unknown."""
    return next((kind for signature, kind in _KINDS if signature.match(head)), None)
