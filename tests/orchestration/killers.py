"""Worker functions that die on a file called victim.mp4, as a decoder with a bug would, and work on any other."""

import os
import signal

from caption_assets.uploads.inspect import Inspected, InspectJob, inspect_file
from caption_assets.video.split_job import FileSplit, SplitJob, split_file
from caption_assets.video.window_job import Cut, CutJob, cut_clip

VICTIM = "victim.mp4"


def die_inspecting(job: InspectJob) -> Inspected:
    if job.location.name == VICTIM:
        os.kill(os.getpid(), signal.SIGKILL)
    return inspect_file(job)


def die_splitting(job: SplitJob) -> FileSplit:
    if job.location.name == VICTIM:
        os.kill(os.getpid(), signal.SIGKILL)
    return split_file(job)


def die_cutting(job: CutJob) -> tuple[Cut, ...]:
    if job.location.name == VICTIM:
        os.kill(os.getpid(), signal.SIGKILL)
    return cut_clip(job)
