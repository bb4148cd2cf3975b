"""Loading models without the warnings that diffusers and transformers print meanwhile."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Keep diffusers and transformers from printing anything but errors in this thread.

    Warnings of other threads pass, and the user's logging levels stay as they are.
    """
    import transformers  # noqa: F401 - both install their log handlers when imported
    from diffusers.utils import logging as diffusers_logging  # noqa: F401

    loading_thread = threading.get_ident()

    def passes(record: logging.LogRecord) -> bool:
        return record.thread != loading_thread or record.levelno >= logging.ERROR

    handlers = [handler for name in ("diffusers", "transformers") for handler in logging.getLogger(name).handlers]
    for handler in handlers:
        handler.addFilter(passes)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(passes)
