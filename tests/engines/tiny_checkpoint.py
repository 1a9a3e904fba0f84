"""Checkpoints of real architectures with random weights, some megabytes each: gibberish, but the real code paths.

python -m tests.engines.tiny_checkpoint FOLDER [qwen3_vl | qwen2_5_vl | internvl | internvl_chat | smolvlm]
"""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

SPECIAL = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
    "<|image_pad|>", "<|video_pad|>",
)  # fmt: skip
SPECIAL_OF_OTHERS = {
    "internvl": {
        "start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    },
    "internvl_chat": {"start_image_token": "<img>", "end_image_token": "</img>", "image_token": "<IMG_CONTEXT>"},
    "smolvlm": {
        "image_token": "<image>", "fake_image_token": "<fake_token_around_image>", "global_image_token": "<global-img>",
        "end_of_utterance_token": "<end_of_utterance>", "video_token": "<video>",
    },
}  # fmt: skip
"""Tokens of families that are not Qwen's, under the names by which their processors ask a tokenizer for them."""
CHAT_TEMPLATE = """\
{%- for message in messages -%}
<|im_start|>{{ message.role }}
{% if message.content is string %}{{ message.content }}{% else %}
{%- for part in message.content -%}
{%- if part.type == 'video' -%}<|vision_start|><|video_pad|><|vision_end|>
{%- elif part.type == 'image' -%}<|vision_start|><|image_pad|><|vision_end|>
{%- else -%}{{ part.text }}{%- endif -%}
{%- endfor -%}{% endif %}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}<|im_start|>assistant
{% endif -%}
"""
CHAT_TEMPLATE_OF_INTERNVL = """\
{%- for message in messages -%}
<|im_start|>{{ message.role }}
{% if message.content is string %}{{ message.content }}{% else %}
{%- for part in message.content -%}
{%- if part.type == 'video' %}{{ '<video>\\n' }}
{%- elif part.type == 'image' %}{{ '<IMG_CONTEXT>\\n' }}
{%- else %}{{ part.text }}{% endif -%}
{%- endfor -%}{% endif %}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}<|im_start|>assistant
{% endif -%}
"""
CHAT_TEMPLATE_OF_INTERNVL_CHAT = """\
{%- for message in messages -%}
<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}<|im_start|>assistant
{% endif -%}
"""
CODE_OF_INTERNVL_CHAT = """\
from transformers import PretrainedConfig, Qwen2Config


class InternVLChatConfig(PretrainedConfig):
    model_type = "internvl_chat"
    has_no_defaults_at_init = True

    def __init__(self, text_config=None, vision_config=None, **fields):
        self.text_config = Qwen2Config(**(text_config or {}))
        self.vision_config = PretrainedConfig(**(vision_config or {}))
        super().__init__(**fields)
"""
CHAT_TEMPLATE_OF_SMOLVLM = """\
<|im_start|>{% for message in messages -%}
{{ message.role | capitalize }}{{ ':' if message.content[0].type == 'image' else ': ' }}
{%- for part in message.content -%}
{%- if part.type == 'text' %}{{ part.text }}{% elif part.type in ('image', 'video') %}<{{ part.type }}>{% endif -%}
{%- endfor -%}<end_of_utterance>
{% endfor -%}
{%- if add_generation_prompt -%}Assistant:{% endif -%}
"""
"""As SmolVLM2's own: contents are lists of parts, and a string would leave nothing behind."""
HEADS_OF_32 = {"num_attention_heads": 2, "num_key_value_heads": 1}
"""Of the text model: vLLM's CPU build has no heads of 16."""
VISION = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
SIDE = {"qwen3_vl": 16, "qwen2_5_vl": 14}
"""Pixels of a patch; a visual token is two by two patches."""


def make_checkpoint(folder: Path, family: str = "qwen3_vl") -> Path:
    """Write a checkpoint of `family` with a tokenizer trained on this repository's own words."""
    import torch

    torch.manual_seed(0)
    if family == "internvl_chat":
        return _internvl_chat(folder)
    make = {"qwen3_vl": _qwen3_vl, "qwen2_5_vl": _qwen2_5_vl, "internvl": _internvl, "smolvlm": _smolvlm}[family]
    model, processor = make(_tokenizer(SPECIAL_OF_OTHERS.get(family, {})))
    model.to(torch.bfloat16).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def make_shape_of_qwen3_vl_8b(folder: Path) -> Path:
    """Write config, tokenizer and processor of a model as large as Qwen3-VL-8B: all that `load_format=dummy` needs."""
    import json

    from transformers import Qwen2VLImageProcessor, Qwen3VLConfig, Qwen3VLProcessor, Qwen3VLVideoProcessor

    tokenizer = _tokenizer()
    _, _, ids = _common(tokenizer)
    rope = {"rope_type": "default", "rope_theta": 5e6, "mrope_section": [24, 20, 20], "mrope_interleaved": True}
    text = {
        "vocab_size": 151_936, "hidden_size": 4096, "intermediate_size": 12_288, "num_hidden_layers": 36,
        "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "max_position_embeddings": 262_144,
        "eos_token_id": tokenizer.eos_token_id, "pad_token_id": 0, "bos_token_id": 0, "dtype": "bfloat16",
        "rope_parameters": rope, "rope_scaling": rope,
    }  # fmt: skip
    vision = {
        "depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "num_heads": 16, "patch_size": 16,
        "temporal_patch_size": 2, "spatial_merge_size": 2, "out_hidden_size": 4096, "num_position_embeddings": 2304,
        "deepstack_visual_indexes": [8, 16, 24],
    }  # fmt: skip
    config = Qwen3VLConfig(text_config=text, vision_config=vision, **{**ids, "tie_word_embeddings": False})
    config.architectures = ["Qwen3VLForConditionalGeneration"]
    config.dtype = "bfloat16"
    config.save_pretrained(folder)
    video = Qwen3VLVideoProcessor(patch_size=16, merge_size=2, size=_LIMITS_OF_QWEN3)
    image = Qwen2VLImageProcessor(patch_size=16, merge_size=2)
    Qwen3VLProcessor(image, tokenizer, video, chat_template=CHAT_TEMPLATE).save_pretrained(folder)
    file = folder / "tokenizer.json"
    written = json.loads(file.read_text(encoding="utf-8"))
    words = written["model"]["vocab"]
    words |= {f"unused{number}": number for number in range(max(words.values()) + 1, text["vocab_size"])}
    file.write_text(json.dumps(written), encoding="utf-8")
    return folder


def _tokenizer(named: Mapping[str, str] = MappingProxyType({})) -> Any:
    """Return a tokenizer of Qwen's special tokens and of those that a processor asks for by name."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=900,
        special_tokens=[*SPECIAL, *named.values()],
        initial_alphabet=alphabet,
        show_progress=False,
    )
    bpe.train_from_iterator(_words(), trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=list(SPECIAL[1:]),
        **({"extra_special_tokens": dict(named)} if named else {}),
    )
    if named:
        return tokenizer
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.image_token, tokenizer.video_token = "<|image_pad|>", "<|video_pad|>"
    return tokenizer


def _words() -> Iterator[str]:
    from caption_assets.settings.prompts import CAPTION_PROMPTS, ENHANCE_PROMPTS

    for prompt in (*CAPTION_PROMPTS.values(), *ENHANCE_PROMPTS.values()):
        yield prompt.text
    yield from (path.read_text(encoding="utf-8") for path in sorted(Path(__file__).parent.glob("*.py")))


def _common(tokenizer: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    token = tokenizer.convert_tokens_to_ids
    text = {
        "vocab_size": 1024, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 32_768,
        "eos_token_id": token("<|im_end|>"), "pad_token_id": 0, "bos_token_id": 0, "tie_word_embeddings": True,
    }  # fmt: skip
    vision = {"depth": 2, "hidden_size": 64, "intermediate_size": 128, "num_heads": 4}
    ids = {
        "image_token_id": token("<|image_pad|>"),
        "video_token_id": token("<|video_pad|>"),
        "vision_start_token_id": token("<|vision_start|>"),
        "vision_end_token_id": token("<|vision_end|>"),
        "tie_word_embeddings": True,
    }
    return text, vision, ids


def _qwen3_vl(tokenizer: Any) -> tuple[Any, Any]:
    from transformers import (
        Qwen2VLImageProcessor,
        Qwen3VLConfig,
        Qwen3VLForConditionalGeneration,
        Qwen3VLProcessor,
        Qwen3VLVideoProcessor,
    )

    text, vision, ids = _common(tokenizer)
    rope = {"rope_type": "default", "rope_theta": 5e6, "mrope_section": [6, 5, 5], "mrope_interleaved": True}
    sizes = {"patch_size": 16, "spatial_merge_size": 2, "temporal_patch_size": 2, "out_hidden_size": 64}
    config = Qwen3VLConfig(
        text_config={**text, "head_dim": 32, "rope_parameters": rope, "rope_scaling": rope},
        vision_config={**vision, **sizes, "num_position_embeddings": 2304, "deepstack_visual_indexes": [0, 1]},
        **ids,
    )
    video = Qwen3VLVideoProcessor(patch_size=16, merge_size=2, size=_LIMITS_OF_QWEN3)
    image = Qwen2VLImageProcessor(patch_size=16, merge_size=2)
    processor = Qwen3VLProcessor(image, tokenizer, video, chat_template=CHAT_TEMPLATE)
    return Qwen3VLForConditionalGeneration(config), processor


def _qwen2_5_vl(tokenizer: Any) -> tuple[Any, Any]:
    from transformers import (
        Qwen2_5_VLConfig,
        Qwen2_5_VLForConditionalGeneration,
        Qwen2_5_VLProcessor,
        Qwen2VLImageProcessor,
        Qwen2VLVideoProcessor,
    )

    text, vision, ids = _common(tokenizer)
    text |= HEADS_OF_32
    rope = {"type": "mrope", "rope_type": "default", "rope_theta": 1e6, "mrope_section": [4, 6, 6]}
    sizes = {
        "patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2, "out_hidden_size": 64,
        "window_size": 112, "fullatt_block_indexes": [1], "tokens_per_second": 2,
    }  # fmt: skip
    config = Qwen2_5_VLConfig(
        text_config={**text, "rope_parameters": rope, "rope_scaling": rope}, vision_config={**vision, **sizes}, **ids
    )
    video = Qwen2VLVideoProcessor(patch_size=14, merge_size=2)
    image = Qwen2VLImageProcessor(patch_size=14, merge_size=2)
    processor = Qwen2_5_VLProcessor(image, tokenizer, video, chat_template=CHAT_TEMPLATE)
    return Qwen2_5_VLForConditionalGeneration(config), processor


def _internvl(tokenizer: Any) -> tuple[Any, Any]:
    from transformers import (
        GotOcr2ImageProcessor,
        InternVLConfig,
        InternVLForConditionalGeneration,
        InternVLProcessor,
        InternVLVideoProcessor,
    )

    text, _, _ = _common(tokenizer)
    side, tokens = {"height": 56, "width": 56}, 4  # 4 by 4 patches, of which 4 make a token
    config = InternVLConfig(
        text_config={**text, **HEADS_OF_32, "model_type": "qwen2"},
        vision_config={**VISION, "patch_size": [14, 14], "image_size": [56, 56]},
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"), image_seq_length=tokens, downsample_ratio=0.5,
        tie_word_embeddings=True,
    )  # fmt: skip
    processor = InternVLProcessor(
        GotOcr2ImageProcessor(size=side), tokenizer, InternVLVideoProcessor(size=side), image_seq_length=tokens,
        chat_template=CHAT_TEMPLATE_OF_INTERNVL,
    )  # fmt: skip
    return InternVLForConditionalGeneration(config), processor


def _internvl_chat(folder: Path) -> Path:
    """Write InternVL as its makers do: with code of their own for the config, and no processor. Without weights.

    Only vLLM has the rest of it: load it with `trust_remote_code` and `load_format=dummy`.
    """
    import json

    tokenizer = _tokenizer(SPECIAL_OF_OTHERS["internvl_chat"])
    tokenizer.chat_template = CHAT_TEMPLATE_OF_INTERNVL_CHAT
    tokenizer.save_pretrained(folder)
    text, _, _ = _common(tokenizer)
    config = {
        "model_type": "internvl_chat", "architectures": ["InternVLChatModel"], "dtype": "bfloat16",
        "auto_map": {"AutoConfig": "configuration_internvl_chat.InternVLChatConfig"},
        "text_config": {**text, **HEADS_OF_32, "model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]},
        "vision_config": {
            **VISION, "patch_size": 14, "image_size": 56, "qkv_bias": True, "qk_normalization": False,
            "layer_norm_eps": 1e-6, "hidden_act": "gelu", "norm_type": "layer_norm", "initializer_factor": 0.1,
        },
        "force_image_size": 56, "downsample_ratio": 0.5, "select_layer": -1, "ps_version": "v2",
        "dynamic_image_size": True, "use_thumbnail": True, "min_dynamic_patch": 1, "max_dynamic_patch": 12,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "configuration_internvl_chat.py").write_text(CODE_OF_INTERNVL_CHAT, encoding="utf-8")
    return folder


def _smolvlm(tokenizer: Any) -> tuple[Any, Any]:
    from transformers import (
        SmolVLMConfig,
        SmolVLMForConditionalGeneration,
        SmolVLMImageProcessor,
        SmolVLMProcessor,
        SmolVLMVideoProcessor,
    )

    text, _, _ = _common(tokenizer)
    side = {"longest_edge": 64}
    config = SmolVLMConfig(
        text_config={**text, **HEADS_OF_32, "model_type": "llama"},
        vision_config={**VISION, "patch_size": 16, "image_size": 64},
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"), scale_factor=2, tie_word_embeddings=True,
        pad_token_id=0,
    )  # fmt: skip
    image = SmolVLMImageProcessor(size={"longest_edge": 256}, max_image_size=side)
    video = SmolVLMVideoProcessor(size=side, max_image_size=side)
    processor = SmolVLMProcessor(
        image, tokenizer, video, image_seq_len=4, chat_template=CHAT_TEMPLATE_OF_SMOLVLM
    )  # 4 by 4 patches, of which 4 make a token
    return SmolVLMForConditionalGeneration(config), processor


_LIMITS_OF_QWEN3 = {"shortest_edge": 4096, "longest_edge": 25_165_824}
"""As in the checkpoints of Qwen3-VL."""


if __name__ == "__main__":
    print(make_checkpoint(Path(sys.argv[1]), *sys.argv[2:]))
