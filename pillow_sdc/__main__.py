"""``python -m pillow_sdc`` is ``sdc``."""

from .cli import app

app(prog_name="sdc")
