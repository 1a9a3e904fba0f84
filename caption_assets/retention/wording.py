r"""Words that no caption has: refusals, talk about the task, tokens of a chat template. And whether a prompt is echoed.

What stands in quotation marks is left out of refusals and talk: a sign in the picture may say anything.
"""

import re
import unicodedata
from functools import lru_cache

from caption_assets.retention.similarity import known_words

_QUOTED = re.compile(
    r'"[^"\n]{1,300}"|“[^”\n]{1,300}”|„[^“”\n]{1,300}[“”]|«[^»\n]{1,300}»|「[^」\n]{1,300}」|『[^』\n]{1,300}』'
    r"|《[^》\n]{1,300}》|(?<!\w)'[^'\n]{1,300}'(?!\w)|(?<!\w)‘[^’\n]{1,300}’(?!\w)"
)
_MARKUP = " \t\r\n*#>_-–—•`"

_REFUSALS = (
    # English
    r"\bas an? (?:ai|artificial intelligence)(?:,| (?:(?:language|vision) )?(?:model|assistant|system|chatbot)\b)",
    r"\bas a (?:large |visual |multimodal )?language model\b",
    r"\bi(?:'m| am) (?:an? |just an? |only an? )?(?:ai|artificial intelligence|(?:large )?language model)\b",
    r"^(?:(?:i'm|i am) (?:very |so |really |truly )?sorry\b|sorry[,.]|i apologi[sz]e\b|unfortunately,? i\b)",
    r"\bi(?:'m| am)? (?:cannot|can ?not|can't|could not|couldn't|won't|will not|unable to|not able to|not allowed to) "
    r"(?:\w+ ){0,3}?(?:assist|help|provide|describe|view|see|watch|access|process|identify|generate|comply|fulfill?"
    r"|create|analy[sz]e|answer|determine|tell|caption|recogni[sz]e|discuss|continue)\b",
    r"\bi (?:don't|do not) (?:see|have|have access to|receive) (?:any |an? |the )?(?:video|image|frame|clip|attachment|"
    r"ability|access|enough information)",
    r"\bno (?:video|image|frames?|clip) (?:was|were|has been|have been) (?:provided|attached|uploaded|given|shared)\b",
    r"\bplease (?:provide|upload|share|attach|send) (?:me )?(?:the|a|an|your|more)\b",
    # Chinese, Japanese, Korean
    r"作为(?:一个|一名)?(?:ai|人工智能|语言模型|大模型)",
    r"^(?:很|非常)?(?:抱歉|对不起|遗憾)",
    r"我(?:无法|不能|没办法|没有办法)(?:直接)?(?:查看|观看|提供|描述|看到|识别|帮助|协助|回答|访问|处理)",
    r"申し訳(?:ありません|ございません)",
    r"ai(?:アシスタント|言語モデル)?(?:として|なので|ですので)",
    r"죄송(?:합니다|하지만)",
    r"(?:ai|인공지능)(?: 언어)?(?: ?모델| ?비서)?(?:로서|으로서)",
    # German, French, Spanish, Portuguese, Italian
    r"\bals (?:eine? )?(?:ki|künstliche intelligenz|sprachmodell)\b",
    r"^(?:es )?tut mir leid\b",
    r"\bich (?:kann|darf) (?:\w+ ){0,4}?(?:nicht|keine[nmr]?)\b",
    r"\ben tant qu(?:e |')(?:ia|intelligence artificielle|assistant|modèle de langage)",
    r"^(?:je suis )?(?:vraiment )?désolée?\b",
    r"\bje ne (?:peux|suis) pas\b",
    r"\bcomo (?:una? )?(?:ia|inteligencia artificial|modelo de lenguaje)\b",
    r"^lo siento\b",
    r"\bno puedo (?:ayudar|describir|ver|proporcionar|asistir|acceder|procesar|identificar)",
    r"\bcomo (?:uma? )?(?:ia|inteligência artificial|modelo de linguagem)\b",
    r"^(?:desculpe|sinto muito|lamento)\b",
    r"\bnão (?:posso|consigo) (?:ajudar|descrever|ver|fornecer|acessar|processar|identificar)",
    r"\bcome (?:un'|una )?(?:ia|intelligenza artificiale|modello linguistico)\b",
    r"^mi dispiace\b",
    r"\bnon posso (?:aiutar|descriver|veder|forni|accede|identific)",
    # Russian, Arabic, Hindi
    r"\bкак (?:ии|искусственный интеллект|языковая модель)\b",
    r"^(?:извините|простите|к сожалению, я)\b",
    r"\bя не могу (?:помочь|описать|увидеть|видеть|просмотреть|посмотреть|предоставить|ответить)",
    r"^(?:عذر|آسف|أعتذر|أعتذر)",
    r"لا (?:أستطيع|يمكنني)",
    r"^(?:क्षमा करें|माफ़ करें|मुझे खेद है)",
)

_CAPTION = (
    r"(?:video |image |clip )?(?:captions?|descriptions?|summary|answer|response|output|version|breakdown|analysis)"
)

_TALK = (
    # English
    r"^(?:sure|certainly|of course|absolutely|okay|ok|alright|great|got it|no problem|thank you|thanks)\s?[,!.:]",
    r"^here(?:'s| is| are) (?:a|an|the|your|my|some|one)\b[^.:!?\n]{0,80}?\b" + _CAPTION + r"\b",
    r"^(?:the |a |my )?(?:(?:refined|revised|improved|updated|final|enhanced|rewritten|detailed|short) )?"
    + _CAPTION
    + r"(?: (?:of|for) (?:the|this) (?:video|image|clip|frames?))?(?: is| reads| would be| could be)?(?: as follows)?"
    + r"\W{0,3}:",
    r"\b(?:let me know if|(?:i )?hope (?:this|that) helps|feel free to (?:ask|let)|would you like me to"
    r"|is there anything else|if you (?:have|need|want|would like) (?:any|more|further|me to)\b)",
    r"\b(?:based on|from|given) (?:the |these |those )?(?:provided|given|supplied|uploaded|attached) "
    r"(?:frames?|images?|videos?|clips?|information|description)\b",
    r"\b(?:you|the user) (?:asked|requested|provided|uploaded|shared)\b",
    # Chinese, Japanese, Korean
    r"^(?:好的|当然|没问题|以下是|下面是|这是(?:一个|一段|对)?.{0,12}(?:描述|说明|字幕|总结)\s*[:：])",
    r"希望(?:这|以上|对).{0,10}帮助",
    r"^(?:はい、|もちろん|以下は|以下に|承知)",
    r"^(?:네[,.]|물론|다음은|아래는)",
    # German, French, Spanish, Portuguese, Italian, Russian
    r"^(?:natürlich|gerne?|klar|selbstverständlich|sicher)\s?[,!.:]",
    r"^hier ist (?:eine?|die|der|das)\b.{0,60}?(?:beschreibung|zusammenfassung|bildunterschrift|untertitel)",
    r"^(?:bien sûr|certainement|d'accord|voici (?:une?|la|le|les)\b.{0,60}?(?:description|légende|résumé))",
    r"^(?:claro|por supuesto|com certeza)\s?[,!.:]|^(?:aquí (?:tienes|está)|aqui está)\b",
    r"^(?:certo|certamente)\s?[,!.:]|^ecco (?:una?|la|il)\b.{0,60}?(?:descrizione|didascalia|riassunto)",
    r"^(?:конечно|хорошо)\s?[,!.:]|^вот (?:краткое |подробное )?(?:описание|подпись)",
)

_TOKENS = re.compile(
    r"<\|[^|<>\s]{1,40}\|>|<｜[^｜<>]{1,40}｜>|<0x[0-9A-Fa-f]{2}>|<__dj__\w{1,20}>|<<?/?SYS>?>|\[/?INST\]"
    r"|\[(?:PAD|UNK|SEP|CLS|EOS|BOS|MASK|IMG|VIDEO|IMAGE)\]"
    r"|</?(?:s|pad|unk|eos|bos|bot|eot|mask|sep|cls|img|image|video|vid|audio|frame|think|thinking|thought|answer|response"
    r"|im_start|im_end|start_of_turn|end_of_turn|start_of_image|end_of_image|endoftext|end_of_text|tool_call|tools?"
    r"|unused\d+|extra_id_\d+|image_?\d+|video_?\d+|fim_(?:prefix|middle|suffix))>"
    r"|\ufffd"
)

_REFUSAL = tuple(re.compile(pattern) for pattern in _REFUSALS)
_META_TALK = tuple(re.compile(pattern) for pattern in _TALK)

MIN_PROMPT_WORDS = 4
"""A shorter prompt can be part of an honest caption."""


def refusal(text: str) -> str | None:
    """Return the words by which `text` refuses to describe, or None. Twelve languages, no model."""
    return _first_match(_REFUSAL, plain_speech(text))


def meta_talk(text: str) -> str | None:
    """Return the words by which `text` speaks to its reader or of its task, or None."""
    return _first_match(_META_TALK, plain_speech(text))


def special_token(text: str) -> str | None:
    """Return the first token of a chat template, unread byte or replacement character in `text`, or None."""
    found = _TOKENS.search(text)
    return found[0] if found else None


@lru_cache(maxsize=256)
def plain_speech(text: str) -> str:
    """Return `text` case-folded, with straight apostrophes, without markup at its start and without what it quotes."""
    folded = unicodedata.normalize("NFC", text.casefold()).replace("’", "'").replace("ʼ", "'").strip(_MARKUP)
    if len(folded) > 1 and (folded[0], folded[-1]) in (('"', '"'), ("“", "”"), ("«", "»"), ("「", "」")):
        folded = folded[1:-1].strip(_MARKUP)  # quoted as a whole, it quotes nobody
    return _QUOTED.sub(" ", folded)


def _first_match(patterns: tuple[re.Pattern[str], ...], text: str) -> str | None:
    found = next((match for pattern in patterns if (match := pattern.search(text))), None)
    return found[0].strip() if found else None


def echo(text: str, prompt: str, run: int) -> str | None:
    """Return the first `run` words in a row that `text` has from `prompt`, or None.

    A prompt of fewer words counts as a whole; one of fewer than four never counts.
    """
    asked = _runs(prompt, run)
    if not asked:
        return None
    size = len(next(iter(asked)))
    said = known_words(text)
    runs = (tuple(said[i : i + size]) for i in range(len(said) - size + 1))
    return next((" ".join(words_) for words_ in runs if words_ in asked), None)


@lru_cache(maxsize=64)
def _runs(prompt: str, run: int) -> frozenset[tuple[str, ...]]:
    asked = known_words(prompt)
    size = min(run, len(asked))
    if size < MIN_PROMPT_WORDS:
        return frozenset()
    return frozenset(tuple(asked[i : i + size]) for i in range(len(asked) - size + 1))
