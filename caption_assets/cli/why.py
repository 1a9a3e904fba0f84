"""`caption-assets why`: a window's candidates, the winner first, each with the reason of its verdict."""

import json
import textwrap
from datetime import datetime

import click

from caption_assets.cli.output import in_one_line
from caption_assets.ids import PERSON
from caption_assets.ledger.captions import WITHDRAWN
from caption_assets.pipeline.why import ExplainedCandidate, ExplainedEnhancement, Explanation


def print_explanation(explanation: Explanation) -> None:
    """Print an explanation for a person."""
    window = explanation.window
    click.echo(f"{window.window_id}  frames {window.start_frame} to {window.end_frame}, "
               f"{window.start_s:.2f} to {window.end_s:.2f} s")  # fmt: skip
    if window.clip_start_s is not None:
        start_s, end_s = window.clip_start_s + window.start_s, window.clip_start_s + window.end_s
        click.echo(f"  {start_s:.2f} to {end_s:.2f} s of its file: the clip {window.clip_id} is "
                   f"{window.clip_start_s:.2f} to {window.clip_end_s:.2f} s of it")  # fmt: skip
    for file in window.files or ["(in no batch any more)"]:
        click.echo(f"  in {in_one_line(file)}")
    if window.error:
        click.echo(f"  {window.error}")
    for takedown in explanation.takedowns:
        what = "shown again" if takedown.reason_code == WITHDRAWN else f"taken down, files {takedown.files or 'kept'}"
        click.echo(f"  {takedown.object_kind} {takedown.object_id} {what}, by {takedown.requested_by} "
                   f"on {_when(takedown.created_at)}: {in_one_line(takedown.detail or 'no reason given')}")  # fmt: skip
    for duplicate in explanation.duplicates:
        shown = "whose captions it shows" if duplicate.is_shown else "but it shows the captions it has itself"
        click.echo(f"  in {in_one_line(duplicate.batch)} it is collapsed ({duplicate.mode}, distance "
                   f"{duplicate.distance:.3f}) into {duplicate.duplicate_of}, {shown}")  # fmt: skip
    if not explanation.candidates:
        click.echo("no candidate has been made for it")
    for candidate in explanation.candidates:
        verdict = f"{candidate.action}  {candidate.reason_code or ''}"
        click.echo(f"\n{verdict}  {candidate.reason or ''}")
        click.echo(textwrap.indent(textwrap.fill(candidate.text or candidate.error or "(empty)", 110), "  "))
        if candidate.window_id != window.window_id:
            click.echo(f"  of {candidate.window_id}")
        click.echo(f"  {candidate.candidate_id}  status {candidate.status}, index {candidate.sample_index}, "
                   f"attempt {candidate.attempt}, stage {candidate.stage}, seed {candidate.seed}")  # fmt: skip
        click.echo(f"  model {candidate.model_id} {candidate.model_revision}, engine {candidate.engine} "
                   f"{candidate.engine_version}, prompt {_prompt_of(candidate)}")  # fmt: skip
        click.echo(f"  decided by {candidate.decided_by} {candidate.policy or ''}, score {candidate.score}, "
                   f"evidence {json.dumps(candidate.evidence, ensure_ascii=False)}")  # fmt: skip
    for enhancement in explanation.enhancements:
        _print_enhancement(enhancement)
    for skip in explanation.not_enhanced:
        subject = skip.candidate_id or "this window"
        click.echo(f"\nin {in_one_line(skip.batch)} {subject} is not enhanced: {skip.reason_code}")
    if any(decision.decided_by.startswith(PERSON) for decision in explanation.history):
        click.echo("\ndecisions, the oldest first:")
        for decision in explanation.history:
            said = "withdraws" if decision.is_withdrawal else f"keeps {', '.join(decision.kept) or 'none'}"
            note = f": {in_one_line(decision.note)}" if decision.note else ""
            click.echo(f"  {_when(decision.created_at)}  {decision.decided_by} ({decision.policy}) {said}{note}")
    for name, prompt in sorted({(_prompt_of(c), c.prompt) for c in explanation.candidates if c.prompt}):
        click.echo(f"\n{name} is the prompt:\n" + textwrap.indent(textwrap.fill(prompt, 110), "  "))


def _prompt_of(candidate: ExplainedCandidate) -> str:
    """Return the name of a candidate's prompt, and the start of its hash, which tells it from others of that name."""
    return f"{candidate.prompt_name} {(candidate.prompt_sha256 or '')[:8]}".rstrip()


def _when(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S} UTC"


def _print_enhancement(enhancement: ExplainedEnhancement) -> None:
    checked = {None: "not checked for drift", "ok": "no drift found", "unchanged": "it changes nothing"}
    verdict = checked.get(enhancement.drift) or f"drifted: {enhancement.drift_reason}"
    click.echo(f"\nenhanced  {enhancement.status}, {verdict}")
    click.echo(textwrap.indent(textwrap.fill(enhancement.text or enhancement.error or "(empty)", 110), "  "))
    click.echo(f"  {enhancement.enhanced_id}  from {enhancement.candidate_id}, seed {enhancement.seed}")
    click.echo(f"  model {enhancement.model_id} {enhancement.model_revision}, engine {enhancement.engine} "
               f"{enhancement.engine_version}, prompt {enhancement.prompt_name}")  # fmt: skip
    if enhancement.evidence:
        click.echo(f"  evidence {json.dumps(enhancement.evidence, ensure_ascii=False)}")
