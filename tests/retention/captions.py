"""Captions that must pass every gate, and texts that must not, each with the gate that stops it."""

import hashlib

PROMPT = (
    "Describe in detail what can be seen in this video and tell the story as it unfolds: the people, the objects, the "
    "place, the light, and how the camera moves."
)

GOOD = [
    "A dog runs.",
    "Two dogs play in the snow while a child in a red coat throws a ball.",
    'The video shows a man in a dark suit speaking into a microphone on a stage. Behind him a screen reads "As an AI, '
    'I cannot help you" in white letters, and the audience laughs.',
    "A hand-written sign says 'Sorry, I cannot provide refunds' while customers walk past the counter.",
    "A robot, presented as an AI-generated character, waves at the crowd. It appears as an AI robot with blue eyes.",
    "Okra is sliced on a wooden board. Great white sharks circle the cage in the next shot. Sure-footed goats climb.",
    "Here a woman in a yellow raincoat crosses the street; the camera follows her from left to right.",
    "A person scrolls through a phone. The description of a product is visible: a pair of black running shoes.",
    "At 00:04 the goalkeeper dives to the left. At 00:06 the ball hits the net, and the players in white celebrate.",
    "The camera pans slowly from left to right. A silver car enters from the left, stops at the light, and waits. "
    "When the light turns green, the silver car turns right and leaves the picture. A cyclist follows the silver car.",
    "A close-up of a code editor: the cursor moves over the line `for i in range(10):` and the text x < y && y > z.",
    'A slide with the title "Описание видео" is shown for five seconds, then the speaker points at the word "出口".',
    'The man says: "I can\'t see it". He lifts the box, looks under it, and shakes his head.',
    "1, 2, 3, 4, 5, 6, 7, 8, 9, 10: a countdown in reverse runs in the corner while fireworks are prepared.",
    "Waves, waves, waves: the sea breaks on the rocks again and again. Nothing else moves.",
    "A red bus, a red car, a red door and a red hat: everything in this advertisement is red.",
    "No people are visible. No cars pass. The street is empty, wet from the rain, and lit by a single lamp.",
    "A woman apologizes to the referee, bows, and leaves the mat. She cannot continue the fight.",
    "Se ve a una mujer que camina por la playa al atardecer; las olas mojan sus pies.",
    "Ein Mann sägt ein Brett in einer Werkstatt, Späne fallen auf den Boden, und am Ende hält er das Brett hoch.",
    "Une femme coupe des légumes dans une cuisine lumineuse pendant qu'un enfant dessine à table.",
]
"""Captions in Latin script, as answers to PROMPT."""

GOOD_ELSEWHERE = [
    (
        "请详细描述这段视频。",
        "视频中，一位身穿红色外套的女士站在厨房里，正在切胡萝卜。她先把胡萝卜洗干净，然后放在木质砧板上，用刀把胡萝卜切成薄片。"
        "背景里有一个炉灶，炉灶上放着一口锅，锅里冒着热气。女士把切好的胡萝卜放进锅里，然后用木勺搅拌。",
    ),
    (
        "この動画を詳しく説明してください。",
        "赤いコートを着た女性がキッチンでニンジンを切っています。カメラはゆっくり近づきます。",
    ),
    ("Describe the video in Japanese, please.", "雨の中、傘をさした男性がバス停に立っています。"),
    ("Опишите видео подробно.", "Мужчина в синей куртке идёт по заснеженной улице, за ним бежит собака."),
    ("Answer in Korean and in English.", "한 남자가 해변을 걷고 있습니다. A man walks along the beach."),
    ("", "任何语言都可以。一只猫睡在沙发上。"),
]
"""Prompts and captions in other scripts."""

BAD = [
    ("special_token", "A dog runs.<|im_end|>"),
    ("special_token", "<think>The user wants a caption.</think>A dog runs over a field."),
    ("special_token", "A dog runs.<0x0A>It stops at the fence."),
    ("special_token", "[INST] A dog runs over the field. [/INST]"),
    ("special_token", "<__dj__video> A dog runs over the field. <|__dj__eoc|>"),
    ("special_token", "A dog runs over the field and b\ufffdrks."),
    ("special_token", "</s></s></s>A dog runs over the field."),
    ("refusal", "I'm sorry, but I can't help with identifying people in this video."),
    ("refusal", "I’m really sorry, I cannot describe this video."),
    ("refusal", "As an AI language model, I do not have the ability to watch videos."),
    ("refusal", "Unfortunately, I am unable to view the video you have attached."),
    ("refusal", "There seems to be a problem: no video was provided. Please upload the file again."),
    ("refusal", "\"I'm sorry, I can't assist with that request.\""),
    ("refusal", "抱歉，我无法观看视频。"),
    ("refusal", "作为一个人工智能，我不能直接查看视频内容。"),
    ("refusal", "申し訳ありませんが、この動画を説明することはできません。"),
    ("refusal", "죄송합니다. 이 동영상을 설명해 드릴 수 없습니다."),
    ("refusal", "Es tut mir leid, ich kann dieses Video leider nicht beschreiben."),
    ("refusal", "En tant qu'IA, je ne peux pas regarder de vidéos."),
    ("refusal", "Lo siento, no puedo ayudar con esa solicitud."),
    ("refusal", "Desculpe, não posso descrever este vídeo."),
    ("refusal", "Mi dispiace, non posso descrivere questo video."),
    ("refusal", "Извините, я не могу описать это видео."),
    ("meta_talk", "Sure! A dog runs over a field and catches a ball."),
    ("meta_talk", "Certainly, the video shows a dog that runs over a field."),
    ("meta_talk", "Here is a detailed description of the video: a dog runs over a field."),
    ("meta_talk", "Here's the refined caption:\n\nA dog runs over a field."),
    ("meta_talk", "**Caption:** A dog runs over a field and catches a ball."),
    ("meta_talk", "Video description: a dog runs over a field."),
    ("meta_talk", "A dog runs over a field. Let me know if you need more details!"),
    ("meta_talk", "Based on the provided frames, a dog runs over a field."),
    ("meta_talk", "好的，以下是视频的描述：一只狗在田野上奔跑。"),
    ("meta_talk", "Voici une description détaillée de la vidéo : un chien court dans un champ."),
    ("meta_talk", "Claro, un perro corre por el campo."),
    ("meta_talk", "Natürlich! Ein Hund läuft über ein Feld."),
    ("prompt_echo", PROMPT),
    (
        "prompt_echo",
        "The people, the objects, the place, the light, and how the camera moves. A dog runs over a field.",
    ),
    ("loop", "A dog runs over a field. " + "The dog is running over the field. " * 6),
    ("loop", "A dog runs over the field and the the the the the the the the the the the the the"),
    ("loop", "一只狗在田野上奔跑。" + "它跑得很快，" * 12),
    (
        "loop",
        "A bus turns" + ", its black body glinting" * 4 + ", its black bo",
    ),
    (
        "repetition",
        "The man in a white shirt walks a dog. The man in a white shirt walks a brown dog. The brown dog is with the "
        "man in a white shirt. The man in a white shirt is the man with a brown dog. The brown dog walks with the man.",
    ),
    ("wrong_script", "The man picks up 一个 红色 的 umbrella and walks away."),
    ("wrong_script", "视频中，一位女士站在厨房里，正在切胡萝卜。"),
    ("wrong_script", "Мужчина в синей куртке идёт по улице."),
    ("too_short", "Dog."),
    ("too_short", "Paris, France."),
    ("too_short", "..."),
    ("too_long", " ".join(hashlib.sha256(bytes([i % 256, i // 256])).hexdigest()[:7] for i in range(1001))),
]
"""The gate that stops a text, and the text, as an answer to PROMPT."""
