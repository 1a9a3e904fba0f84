"""What the process that workers are forked from imports once, so that a new worker starts in milliseconds.

No other process imports this module. Polars must stay out of it: its threads do not survive a fork.
"""

from multiprocessing import spawn

import av  # noqa: F401
import simplejpeg  # noqa: F401

import caption_assets.video.decode  # noqa: F401


def _leave_main_alone(_: str) -> None:
    """Do not run the caller's `__main__` in a worker: a script without a guard would start its work again."""


spawn._fixup_main_from_name = spawn._fixup_main_from_path = _leave_main_alone  # type: ignore[attr-defined]
