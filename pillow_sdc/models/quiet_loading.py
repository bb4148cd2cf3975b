"""Loading models without the progress bars and warnings that diffusers and transformers print meanwhile."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Keep diffusers and transformers from printing anything but errors in this thread.

    Warnings of other threads pass, and the user's logging levels stay as they are; the progress bars, which are
    switched per process, are on again afterwards where they were on before. To be entered by one thread at a time.
    """
    import transformers  # noqa: F401 - both install their log handlers when imported
    from diffusers.utils import logging as diffusers_logging  # noqa: F401
    from huggingface_hub.utils import (  # type: ignore[attr-defined]
        are_progress_bars_disabled,
        disable_progress_bars,
    )
    from transformers.utils import logging as transformers_logging

    loading_thread = threading.get_ident()

    def passes(record: logging.LogRecord) -> bool:
        return record.thread != loading_thread or record.levelno >= logging.ERROR

    handlers = [handler for name in ("diffusers", "transformers") for handler in logging.getLogger(name).handlers]
    transformers_had_bars = transformers_logging.is_progress_bar_enabled()
    hub_had_bars = not are_progress_bars_disabled()
    for handler in handlers:
        handler.addFilter(passes)
    transformers_logging.disable_progress_bar()  # the hub's bars as well
    try:
        yield
    finally:
        if transformers_had_bars:
            transformers_logging.enable_progress_bar()
        if transformers_had_bars and not hub_had_bars:
            disable_progress_bars()
        for handler in handlers:
            handler.removeFilter(passes)
