"""A real small text model through the engine `transformers`: real sentences, and the drift check on them."""

import re
from pathlib import Path

import pytest

from caption_assets.captioning.drift import check_drift
from caption_assets.captioning.enhancing import EnhanceTask, enhance_request
from caption_assets.engines.dispatcher import stream
from caption_assets.engines.protocol import EngineSpec
from caption_assets.engines.transformers import TransformersEngine
from caption_assets.ids import CandidateId, RecipeId, WindowId
from caption_assets.settings.groups import EnhanceSettings
from caption_assets.settings.prompts import ENHANCE_PROMPTS

from .smollm2 import make_checkpoint, why_not

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))

CAPTIONS = (
    "A busy street in a city at night. Cars with their headlights on drive past tall buildings.",
    "Waves roll onto a sandy beach under a blue sky. A man in a white shirt walks a brown dog along the water.",
)
PLAIN = "Rewrite the caption of a video in one or two sentences. Answer with the new caption only."
COMMON = {"a", "an", "and", "as", "in", "is", "of", "on", "the", "to", "with"}


def test_captions_are_enhanced_in_real_sentences_that_the_drift_check_can_judge(tmp_path: Path) -> None:
    engine = TransformersEngine(EngineSpec(EnhanceSettings(model=str(make_checkpoint(tmp_path / "smollm2")))))
    sampling = {"temperature": 0.3, "top_p": 0.9, "repetition_penalty": 1.05}
    asked = {}
    for position, caption in enumerate(CAPTIONS):
        for prompt in (ENHANCE_PROMPTS["default"].text, PLAIN):
            enhance = EnhanceSettings(prompt_text=prompt, max_output_tokens=40)
            task = EnhanceTask(CandidateId(f"k{position}"), WindowId("w"), RecipeId(prompt), caption, attempt=1)
            asked[task.task_id] = (caption, enhance_request(task, enhance, sampling, None))
    answers = list(stream(engine, (request for _, request in asked.values())))
    again = next(stream(engine, [asked[answers[-1].request_id][1]]))
    engine.close()

    assert again.text == answers[-1].text, "its seed, alone"
    assert len(answers) == len(asked) == 4
    for answer in answers:
        caption = asked[answer.request_id][0]
        words = re.findall(r"[a-z]+", answer.text.lower())
        assert answer.error is None
        assert answer.prompt_tokens == answer.expected_prompt_tokens
        assert len(words) >= 3
        assert COMMON & {*words}, answer.text
        drift = check_drift(answer.text, caption, (), EnhanceSettings())
        assert drift.status in ("ok", "drifted", "unchanged")
        invented = check_drift(f"{answer.text} All this is seen in Buenos Aires.", caption, (), EnhanceSettings())
        assert invented.status == "drifted"
        assert "Buenos Aires" in str(invented.evidence["new_names"])
        assert "Buenos Aires" in str(invented.reason)
    assert len({answer.text for answer in answers}) == 4
