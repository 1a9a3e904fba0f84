"""The engine `openai` against servers that are not well: nothing is lost, nothing asked too often, no key is told."""

import base64
import json
import logging
import random
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from caption_assets.engines.openai import identify, load, servers
from caption_assets.engines.openai.chat import Nonsense, read_completion, vllm_models
from caption_assets.engines.openai.engine import READY_AHEAD, OpenAIEngine
from caption_assets.engines.openai.servers import FAILURES, REST_S, SLACK, Server, choose
from caption_assets.engines.protocol import (
    Completion,
    EngineDied,
    EngineSpec,
    EngineUnavailable,
    FinishReason,
    Message,
    PackedFrames,
    Request,
)
from caption_assets.settings.groups import CaptionSettings, OpenAISettings

from .servers import Call, Reply, TestServer, refuses, repeat, says

FRAMES = PackedFrames([b"one", b"two", b"three"], [10.0, 10.52, 11.016], 8, 8)
VLLM_PAGES = {"/v1/models": {"data": [{"id": "m", "owned_by": "vllm"}]}}
KEY = "sk-this-must-never-be-seen"


def spec(*servers: TestServer, model: str = "m", **options: Any) -> EngineSpec:
    urls = [server.url for server in servers]
    settings: dict[str, Any] = {"timeout_s": 60.0, "max_concurrency": 8, "api_key_env": "TEST_KEY", **options}
    return EngineSpec(CaptionSettings(model=model), server=OpenAISettings(base_urls=urls, **settings))


def text_request(name: str, seeds: Sequence[int] = (1,), **fields: Any) -> Request:
    return Request(name, "enhance", (Message("user", name),), seeds, 50, **fields)


def video_request(name: str = "a", seeds: Sequence[int] = (1,)) -> Request:
    turns = (Message("system", "Be brief."), Message("user", "What is seen?", with_video=True))
    return Request(name, "caption", turns, seeds, 50, {"temperature": 0.5, "top_k": 3}, FRAMES)


@pytest.fixture
def open_engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[EngineSpec], OpenAIEngine]]:
    """Open engines that leave failing servers alone for a moment only."""
    monkeypatch.setattr(servers, "REST_S", 0.05)
    engines: list[OpenAIEngine] = []

    def make(of: EngineSpec) -> OpenAIEngine:
        engines.append(OpenAIEngine(of))
        return engines[-1]

    yield make
    for engine in engines:
        engine.close()
        engine.close()


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert true()


def faults(share: float, seed: int) -> Callable[[Call], Reply]:
    """Return an answerer that does something wrong in `share` of its calls."""
    draw = random.Random(seed)
    nonsense = (
        b"<html>gateway</html>",
        b"",
        b"[]",
        b'{"choices": []}',
        b'{"choices": [{"message": {"content": 7}, "finish_reason": "stop"}]}',
        b'{"choices": [{"message": null}]}',
        says("half", None),
    )

    def answer(call: Call) -> Reply:
        good = repeat(call)
        if draw.random() >= share:
            return replace(good, hang_s=0.005)
        kind = draw.choice(("429", "429 with a time", "500", "503", "hang", "cut", "cut at once", "nonsense"))
        return {
            "429": Reply(429, refuses("slow down")),
            "429 with a time": Reply(429, refuses("slow down"), {"Retry-After": "0.05"}),
            "500": Reply(500, b"oops"),
            "503": Reply(503, refuses("loading")),
            "hang": replace(good, hang_s=30),
            "cut": replace(good, cut=True),
            "cut at once": Reply(200, b"x" * 10**6, cut=True),
            "nonsense": Reply(200, draw.choice(nonsense)),
        }[kind]

    return answer


def test_a_fifth_of_calls_going_wrong_loses_nothing(open_engine: Callable[[EngineSpec], OpenAIEngine]) -> None:
    with TestServer(faults(0.2, 1)) as one, TestServer(faults(0.2, 2)) as two:
        engine = open_engine(spec(one, two, max_concurrency=16, timeout_s=3.0, max_retries=20))
        asked = [text_request(f"window {i}", seeds=(2 * i, 2 * i + 1)) for i in range(200)]
        answers = list(engine.stream(asked))
        calls = [*one.calls, *two.calls]
    assert sorted((a.request_id, a.sample_index) for a in answers) == sorted(
        (r.request_id, i) for r in asked for i in (0, 1)
    )
    assert {a.error for a in answers} == {None}
    for answer in answers:
        request = next(r for r in asked if r.request_id == answer.request_id)
        assert answer.text == f"{request.request_id} #{request.seeds[answer.sample_index]}"
        assert (answer.finish_reason, answer.prompt_tokens, answer.output_tokens) == ("stop", 7, 3)
        assert (answer.latency_ms or 0) > 0
    assert len(calls) > 450, "the faults did happen"
    assert max(one.most_busy, two.most_busy) <= 16
    assert min(len(one.calls), len(two.calls)) > 100


def test_without_retries_every_request_ends_with_its_text_or_a_reason(
    open_engine: Callable[[EngineSpec], OpenAIEngine],
) -> None:
    with TestServer(faults(0.2, 3)) as server:
        engine = open_engine(spec(server, max_retries=0, timeout_s=3.0))
        answers = list(engine.stream(text_request(f"w{i}") for i in range(100)))
    failed = [answer for answer in answers if answer.finish_reason == "error"]
    assert len(answers) == len(server.calls) == 100
    assert 5 < len(failed) < 100
    for answer in failed:
        assert answer.text == ""
        assert str(answer.error).startswith(server.url), "no word about retries"
    seen = " ".join(str(answer.error) for answer in failed)
    for reason in (
        "answered 429: slow down",
        "answered 500: oops",
        "gave no answer within 3 seconds",
        "broke the connection",
        "nonsense",
    ):
        assert reason in seen


def test_no_more_is_in_flight_or_pulled_than_allowed(open_engine: Callable[[EngineSpec], OpenAIEngine]) -> None:
    under_way: list[int] = []

    def source() -> Iterator[Request]:
        for i in range(60):
            under_way.append(i + 1 - sum(call.ended is not None for call in server.calls))
            yield text_request(f"w{i}")

    with TestServer(lambda call: replace(repeat(call), hang_s=0.03)) as server:
        assert len(list(open_engine(spec(server, max_concurrency=4)).stream(source()))) == 60
    assert server.most_busy == 4
    # An answer may be taken a moment before its call is noted as ended: one for each connection.
    assert 4 + READY_AHEAD <= max(under_way) <= 4 + READY_AHEAD + 4


def test_windows_in_flight_can_be_fewer(open_engine: Callable[[EngineSpec], OpenAIEngine]) -> None:
    with TestServer(lambda call: replace(repeat(call), hang_s=0.02)) as server:
        engine = open_engine(replace(spec(server), stage=CaptionSettings(model="m", caption_batch_size=2)))
        assert len(list(engine.stream(text_request(f"w{i}", seeds=(1, 2)) for i in range(8)))) == 16
    assert server.most_busy == 4


def test_what_is_refused_for_itself_is_told_once_in_the_servers_words(
    open_engine: Callable[[EngineSpec], OpenAIEngine],
) -> None:
    def answer(call: Call) -> Reply:
        return Reply(400, refuses("top_k must be -1 or more")) if call.prompt == "bad" else repeat(call)

    with TestServer(answer) as server:
        answers = {
            a.request_id: a for a in open_engine(spec(server)).stream(map(text_request, ("good", "bad", "fine")))
        }
    assert answers["bad"].error == f"{server.url} answered 400: top_k must be -1 or more"
    assert [answers[name].text for name in ("good", "fine")] == ["good #1", "fine #1"]
    assert len(server.calls) == 3


def test_a_request_that_always_breaks_the_server_costs_itself(
    open_engine: Callable[[EngineSpec], OpenAIEngine],
) -> None:
    def answer(call: Call) -> Reply:
        return Reply(500, refuses("CUDA error")) if call.prompt == "poison" else replace(repeat(call), hang_s=0.01)

    with TestServer(answer) as server:
        names = ["poison", *(f"w{i}" for i in range(80))]
        answers = {a.request_id: a for a in open_engine(spec(server, max_retries=3)).stream(map(text_request, names))}
    assert answers["poison"].error == f"gave up after 4 tries; the last one: {server.url} answered 500: CUDA error"
    assert sum(answer.error is None for answer in answers.values()) == 80


def test_a_retry_goes_to_another_server(open_engine: Callable[[EngineSpec], OpenAIEngine]) -> None:
    def fails_first(call: Call) -> Reply:
        return Reply(500, b"oops") if len(one.calls) + len(two.calls) == 1 else repeat(call)

    with TestServer(fails_first) as one, TestServer(fails_first) as two:
        assert [a.text for a in open_engine(spec(one, two)).stream([text_request("a")])] == ["a #1"]
    assert len(one.calls) == len(two.calls) == 1


def test_the_candidates_of_a_request_share_a_session_and_a_server(
    open_engine: Callable[[EngineSpec], OpenAIEngine],
) -> None:
    with TestServer() as one, TestServer() as two:
        engine = open_engine(spec(one, two))
        list(engine.stream(text_request(f"w{i}", seeds=(1, 2, 3, 4)) for i in range(20)))
    sessions = [sorted(call.headers["x-session-id"] for call in server.calls) for server in (one, two)]
    assert sorted(sessions[0] + sessions[1]) == sorted(4 * [f"w{i}" for i in range(20)])
    assert not set(sessions[0]) & set(sessions[1])
    assert sessions[0]
    assert sessions[1]


def test_a_server_that_never_finishes_an_answer_is_given_up(open_engine: Callable[[EngineSpec], OpenAIEngine]) -> None:
    """A byte now and then keeps a connection alive: the limit holds for the whole answer."""
    with TestServer(lambda call: replace(repeat(call), trickle_s=0.2)) as server:
        [answer] = open_engine(spec(server, max_retries=0, timeout_s=1.0)).stream([text_request("a")])
    assert answer.error == f"{server.url} gave no answer within 1 seconds"


def test_a_server_is_left_alone_for_as_long_as_it_asks(open_engine: Callable[[EngineSpec], OpenAIEngine]) -> None:
    def answer(call: Call) -> Reply:
        return repeat(call) if len(server.calls) > 1 else Reply(429, refuses("later"), {"Retry-After": "0.4"})

    with TestServer(answer) as server:
        assert [a.text for a in open_engine(spec(server)).stream([text_request("a")])] == ["a #1"]
    assert server.calls[1].at - server.calls[0].at >= 0.4


def test_a_server_that_asks_for_time_is_passed_over(open_engine: Callable[[EngineSpec], OpenAIEngine]) -> None:
    with TestServer(lambda _: Reply(429, b"", {"Retry-After": "60"})) as busy, TestServer() as free:
        answers = list(open_engine(spec(busy, free)).stream(text_request(f"w{i}") for i in range(20)))
    assert {answer.error for answer in answers} == {None}
    assert len(busy.calls) <= 8
    assert len(free.calls) == 20


def test_a_broken_server_gets_one_attempt_at_a_time_until_it_recovers(
    open_engine: Callable[[EngineSpec], OpenAIEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "REST_S", 0.5)
    recovered = threading.Event()
    at_once: list[int] = []

    def answer(call: Call) -> Reply:
        if recovered.is_set():
            return repeat(call)
        at_once.append(sick.busy)
        return Reply(500, b"down", hang_s=0.01)

    def requests() -> Iterator[Request]:
        for i in range(300):
            if i == 150:
                recovered.set()
            yield text_request(f"w{i}")

    with TestServer(answer) as sick, TestServer(lambda call: replace(repeat(call), hang_s=0.01)) as well:
        answers = list(open_engine(spec(sick, well, max_concurrency=4)).stream(requests()))
    assert {answer.error for answer in answers} == {None}
    assert len(answers) == 300
    assert len(at_once) >= FAILURES
    assert not [others for others in at_once[FAILURES + 3 :] if others > 1]
    assert len(sick.calls) > len(at_once) + 30, "it has its share again"


def test_the_engine_gives_up_when_no_server_is_left(
    open_engine: Callable[[EngineSpec], OpenAIEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "DOWN_S", 1.0)
    with TestServer() as server:
        gone = server.url
    with TestServer(lambda _: Reply(503, refuses("no worker"))) as ill:
        of = spec(server, ill, max_retries=100)
        started = time.monotonic()
        with pytest.raises(EngineUnavailable) as died:
            list(open_engine(of).stream(map(text_request, "ab")))
    assert time.monotonic() - started >= 1.0
    assert f"{gone} cannot be reached" in str(died.value)
    assert f"{ill.url} answered 503: no worker" in str(died.value)


def test_a_server_that_comes_back_in_time_costs_no_request(open_engine: Callable[[EngineSpec], OpenAIEngine]) -> None:
    """Refused connections use up no retries: nothing was sent."""
    with TestServer() as server:
        port = server.port
    back = TestServer()
    engine = open_engine(spec(server, max_retries=0))
    answers: list[Completion] = []
    asking = threading.Thread(target=lambda: answers.extend(engine.stream(map(text_request, "abcdef"))))
    asking.start()
    wait_until(lambda: engine._servers._servers[0].failures > FAILURES)
    back._listen = lambda: _listen_at(back, port)  # type: ignore[method-assign]
    with back:
        asking.join(60)
    assert sorted(answer.text for answer in answers) == [f"{name} #1" for name in "abcdef"]


async def _listen_at(server: TestServer, port: int) -> int:
    import asyncio

    server._server = await asyncio.start_server(server._serve, "127.0.0.1", port)
    return port


# keys


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_stops_everything_and_says_which_variable(
    status: int, open_engine: Callable[[EngineSpec], OpenAIEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    with TestServer(lambda _: Reply(status, refuses("no access"))) as server:
        with pytest.raises(EngineUnavailable, match=r"there is no key: set TEST_KEY .*no access"):
            list(open_engine(spec(server)).stream(map(text_request, "abc")))
        monkeypatch.setenv("TEST_KEY", KEY)
        with pytest.raises(EngineUnavailable, match="the key in TEST_KEY was refused"):
            list(open_engine(spec(server)).stream(map(text_request, "abc")))


def test_a_server_that_forbids_one_request_only_is_no_reason_to_stop(
    open_engine: Callable[[EngineSpec], OpenAIEngine],
) -> None:
    def answer(call: Call) -> Reply:
        return Reply(403, refuses("moderated")) if call.prompt == "b" else repeat(call)

    with TestServer(answer) as server:
        engine = open_engine(spec(server, max_concurrency=1))
        assert [a.error for a in engine.stream(map(text_request, "abc"))] == [
            None,
            f"{server.url} answered 403: moderated",
            None,
        ]


def test_the_key_is_sent_and_nowhere_told(
    open_engine: Callable[[EngineSpec], OpenAIEngine], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Servers that repeat the key, in errors, in nonsense, cut in half where an excerpt ends."""
    monkeypatch.setenv("TEST_KEY", KEY)
    caplog.set_level(logging.DEBUG)

    def answer(call: Call) -> Reply:
        said = call.headers["authorization"].removeprefix("Bearer ")
        return {
            "wrong": Reply(400, refuses(f"Incorrect API key provided: {said}")),
            "ill": Reply(500, ("x" * 390 + said).encode()),
            "mad": Reply(200, ("x" * 390 + said).encode()),
            "cut": Reply(200, said.encode() * 9, cut=True),
            "odd": Reply(200, json.dumps({"choices": [{"message": {"content": "a"}, "finish_reason": said}]}).encode()),
            "last": Reply(401, refuses(f"{said} has expired")),
        }[call.prompt]

    told: list[str] = []
    with TestServer(answer) as server:
        engine = open_engine(spec(server, max_retries=1, max_concurrency=1))
        told += [repr(a) for a in engine.stream(map(text_request, ("wrong", "ill", "mad", "cut", "odd")))]
        try:
            list(engine.stream([text_request("last")]))
        except EngineUnavailable as fault:
            told += [str(fault), repr(fault), "".join(traceback.format_exception(fault))]
    told += [repr(engine), repr(vars(engine)), *(record.getMessage() for record in caplog.records)]
    assert {call.headers["authorization"] for call in server.calls} == {f"Bearer {KEY}"}
    assert len(told) > 9
    for part in (KEY, KEY[:10], KEY[4:16]):
        assert not [line for line in told if part in line]


def test_a_broken_answer_is_quoted_without_the_key(
    open_engine: Callable[[EngineSpec], OpenAIEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_KEY", KEY)
    with TestServer(lambda _: Reply(headers={"no header": KEY})) as server:
        [answer] = open_engine(spec(server, max_retries=0)).stream([text_request("a")])
    assert str(answer.error).startswith(f"{server.url} broke the connection: illegal header line")
    assert KEY not in str(answer.error)


def test_only_the_key_that_the_settings_name_is_sent(
    open_engine: Callable[[EngineSpec], OpenAIEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with TestServer(pages=VLLM_PAGES) as server:
        assert [a.error for a in open_engine(spec(server)).stream([text_request("a")])] == [None]
    assert "authorization" not in server.calls[0].headers


def test_the_key_does_not_follow_where_a_server_points(
    open_engine: Callable[[EngineSpec], OpenAIEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_KEY", KEY)
    with (
        TestServer() as other,
        TestServer(lambda _: Reply(307, b"", {"Location": f"{other.url}/chat/completions"})) as one,
    ):
        [answer] = open_engine(spec(one)).stream([text_request("a")])
    assert other.calls == []
    assert "answered 307" in str(answer.error)


@pytest.mark.parametrize("url", ["http://user:secret@host/v1", "http://host/v1?api_key=secret"])
def test_an_address_with_a_password_is_refused_without_repeating_it(url: str) -> None:
    of = EngineSpec(CaptionSettings(model="m"), server=OpenAISettings.model_construct(base_urls=[url]))
    with pytest.raises(EngineUnavailable, match="OPENAI_API_KEY") as refused:
        load(of)
    assert "secret" not in str(refused.value)


def test_what_only_a_server_can_decide_is_refused_with_the_setting() -> None:
    for option, value in {"fp8": True, "preprocess_dtype": "float16", "engine_kwargs": {"max_model_len": 9}}.items():
        with pytest.raises(EngineUnavailable, match=option):
            identify(EngineSpec(CaptionSettings()).with_options({option: value}))


def test_the_identity_is_known_without_a_server_and_makes_the_same_engine_again() -> None:
    plain = EngineSpec(CaptionSettings(model="m"))
    as_images = EngineSpec(CaptionSettings(model="m", revision="abc"), server=OpenAISettings(frames_as="images"))
    assert (identify(plain).model_revision, identify(plain).options) == ("served", "")
    found = identify(as_images)
    assert (found.engine, found.model_id, found.model_revision, found.options) == (
        "openai", "m", "abc", '{"frames_as":"images"}',
    )  # fmt: skip
    again = EngineSpec(CaptionSettings(model=found.model_id, revision=found.model_revision))
    again = again.with_options(json.loads(found.options))
    assert identify(again) == found


# streams


def test_closing_the_stream_hangs_up_and_the_engine_goes_on(open_engine: Callable[[EngineSpec], OpenAIEngine]) -> None:
    def answer(call: Call) -> Reply:
        return replace(repeat(call), hang_s=0.0 if call.prompt in ("w7", "later") else 600.0)

    with TestServer(answer) as server:
        engine = open_engine(spec(server, timeout_s=600.0))
        stream = engine.stream(text_request(f"w{i}") for i in range(100))
        assert next(stream).text == "w7 #1", "the eighth, the last for which there is room"
        wait_until(lambda: server.busy == 7)
        stream.close()  # type: ignore[attr-defined]
        wait_until(lambda: server.busy == 0)
        assert {call.prompt for call in server.calls if not call.hung_up} == {"w7"}
        assert len(server.calls) == 8
        assert [a.text for a in engine.stream([text_request("later")])] == ["later #1"]


def test_closing_the_engine_ends_a_stream(open_engine: Callable[[EngineSpec], OpenAIEngine]) -> None:
    def close() -> None:
        wait_until(lambda: server.busy == 1)
        engine.close()

    with TestServer(lambda call: replace(repeat(call), hang_s=600.0)) as server:
        engine = open_engine(spec(server, timeout_s=600.0))
        closing = threading.Thread(target=close)
        closing.start()
        with pytest.raises(EngineDied, match="closed"):
            list(engine.stream([text_request("a")]))
        closing.join()


def test_a_fault_of_the_source_reaches_the_caller(open_engine: Callable[[EngineSpec], OpenAIEngine]) -> None:
    def source() -> Iterator[Request]:
        yield text_request("a")
        raise KeyError("frames")

    with TestServer() as server, pytest.raises(KeyError, match="frames"):
        list(open_engine(spec(server)).stream(source()))


# bodies


def test_frames_travel_to_vllm_as_one_video_with_their_true_times(
    open_engine: Callable[[EngineSpec], OpenAIEngine],
) -> None:
    with TestServer(pages=VLLM_PAGES) as server:
        list(open_engine(spec(server)).stream([video_request("a", seeds=(5, 6)), video_request("b", seeds=(7,))]))
    bodies = sorted((call.body for call in server.calls), key=lambda body: int(body["seed"]))
    assert [body["seed"] for body in bodies] == [5, 6, 7]
    packed = ",".join(base64.b64encode(jpeg).decode() for jpeg in FRAMES.jpegs)
    assert {name: value for name, value in bodies[0].items() if name not in ("seed", "stream", "n")} == {
        "model": "m",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {
                "role": "user",
                "content": [
                    {"type": "video_url", "video_url": {"url": f"data:video/jpeg;base64,{packed}"}},
                    {"type": "text", "text": "What is seen?"},
                ],
            },
        ],
        "max_tokens": 50,
        "temperature": 0.5,
        "top_k": 3,
        "chat_template_kwargs": {"enable_thinking": False},
        "media_io_kwargs": {
            "video": {
                "num_frames": -1,
                "fps": 1_000_000,
                "frames_indices": [10_000_000, 10_520_000, 11_016_000],
                "total_num_frames": 1_524_000,  # 3 frames, 0.508 s apart
                "duration": 1.524,
                "do_sample_frames": False,
            }
        },
        "mm_processor_kwargs": {"do_resize": False},
    }
    assert server.pages_read == ["/v1/models"], "asked once"


def test_frames_travel_to_others_as_images_after_their_times(open_engine: Callable[[EngineSpec], OpenAIEngine]) -> None:
    with TestServer(pages={"/v1/models": {"data": [{"id": "m", "owned_by": "sglang"}]}}) as server:
        list(open_engine(spec(server)).stream([video_request()]))
    shown = server.calls[0].body["messages"][1]["content"]
    assert [part.get("text") for part in shown[::2]] == [
        "<10.0 seconds>",
        "<10.5 seconds>",
        "<11.0 seconds>",
        "What is seen?",
    ]
    urls = [part["image_url"]["url"] for part in shown[1::2]]
    assert urls == [f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}" for jpeg in FRAMES.jpegs]
    assert not {"media_io_kwargs", "chat_template_kwargs"} & server.calls[0].body.keys(), "others refuse such fields"


def _without_trust(call: Call) -> Reply:
    if "media_io_kwargs" in call.body:
        return Reply(400, refuses("Per-request media_io_kwargs are disabled; use --trust-request-mm-kwargs only when"))
    return repeat(call)


def test_a_vllm_that_takes_no_times_gets_images_and_a_warning(
    open_engine: Callable[[EngineSpec], OpenAIEngine], caplog: pytest.LogCaptureFixture
) -> None:
    with TestServer(_without_trust, VLLM_PAGES) as server:
        answers = list(open_engine(spec(server, max_retries=0)).stream(map(video_request, "abc")))
    assert {answer.error for answer in answers} == {None}
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "--trust-request-mm-kwargs" in warnings[0]


def test_video_that_was_asked_for_is_never_sent_as_images(open_engine: Callable[[EngineSpec], OpenAIEngine]) -> None:
    with TestServer(_without_trust) as server:
        answer = next(iter(open_engine(spec(server, frames_as="video")).stream([video_request()])))
    assert "--trust-request-mm-kwargs" in str(answer.error)
    assert server.pages_read == []


def test_a_server_that_wants_the_newer_name_of_the_limit_gets_it(
    open_engine: Callable[[EngineSpec], OpenAIEngine],
) -> None:
    def answer(call: Call) -> Reply:
        if "max_tokens" in call.body:
            return Reply(400, refuses("Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."))
        return repeat(call)

    with TestServer(answer) as server:
        engine = open_engine(spec(server, max_concurrency=1, max_retries=0))
        assert [a.error for a in engine.stream(map(text_request, "abc"))] == [None] * 3
    assert [call.body.get("max_completion_tokens") for call in server.calls] == [None, 50, 50, 50]


def test_a_model_that_is_not_served_is_told_before_anything_is_sent(
    open_engine: Callable[[EngineSpec], OpenAIEngine],
) -> None:
    with TestServer(pages=VLLM_PAGES) as server, pytest.raises(EngineUnavailable, match="serves m, not 'Qwen/other'"):
        list(open_engine(spec(server, model="Qwen/other")).stream([video_request()]))
    assert server.calls == []


def test_an_address_that_is_none_is_told(open_engine: Callable[[EngineSpec], OpenAIEngine]) -> None:
    told = pytest.raises(EngineUnavailable, match=r"404: the server does not know the model 'm'.*/v1.*Not Found")
    with TestServer(lambda _: Reply(404, b'{"detail": "Not Found"}')) as server, told:
        list(open_engine(spec(server)).stream([text_request("a")]))


# answers


def completion(
    text: str, finish_reason: FinishReason, refusal: bool, reasoning: str | None, read: int | None, written: int | None
) -> Completion:
    return Completion("", 0, text, finish_reason, read, written, reasoning=reasoning, refusal=refusal)


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (says("A dog."), completion("A dog.", "stop", False, None, 7, 3)),
        (says("A do", "length"), completion("A do", "length", False, None, 7, 3)),
        (says("", "stop"), completion("", "stop", False, None, 7, 3)),
        (says(None, refusal="I cannot."), completion("I cannot.", "stop", True, None, 7, 3)),
        (says("A d", "content_filter"), completion("A d", "stop", True, None, 7, 3)),
        (says("Hm.</think>A dog."), completion("A dog.", "stop", False, "Hm.", 7, 3)),
        (says("A dog.", reasoning_content="Hm."), completion("A dog.", "stop", False, "Hm.", 7, 3)),
        (says(None, "length", reasoning="Hm"), completion("", "length", False, "Hm", 7, 3)),
        (says([{"type": "text", "text": 'A "d\\og".'}]), completion('A "d\\og".', "stop", False, None, 7, 3)),  # type: ignore[arg-type]
        (
            b'{"choices":[{"message":{"content":"a"},"finish_reason":"stop"}],"usage":{"prompt_tokens":"7"}}',
            completion("a", "stop", False, None, None, None),
        ),
    ],
)
def test_answers_are_read(payload: bytes, expected: Completion) -> None:
    assert read_completion(payload) == expected


@pytest.mark.parametrize(
    "payload", [b"", b"null", b'"text"', b"{}", b'{"choices":[3]}', b"\xff\xfe", says("a", "abort"), says("a", 3)]
)
def test_nonsense_is_told_from_answers(payload: bytes) -> None:
    with pytest.raises(Nonsense):
        read_completion(payload)


def test_half_a_character_does_not_spoil_a_request_or_an_answer(
    open_engine: Callable[[EngineSpec], OpenAIEngine],
) -> None:
    with TestServer() as server:
        asked = replace(text_request("a"), messages=(Message("user", "half \ud83d"),))
        assert [a.text for a in open_engine(spec(server)).stream([asked])] == ["half \ud83d #1"]


def test_vllm_is_recognized() -> None:
    def page(*owners: str) -> bytes:
        return json.dumps({"data": [{"id": f"m{i}", "owned_by": owner} for i, owner in enumerate(owners)]}).encode()

    assert vllm_models(page("vllm", "vllm")) == ["m0", "m1"]
    for other in (page("openai"), page(), b"", b"null", b"[]", b'{"data": [{"id": "m"}]}', b'{"data": ["vllm"]}'):
        assert vllm_models(other) is None


# which server


def test_a_failing_server_rests_and_gets_one_attempt_at_a_time() -> None:
    server = Server("a")
    for _ in range(FAILURES):
        assert server.is_ready(0.0)
        server.fails("500", 0.0)
    assert (server.failing_since, server.is_ready(REST_S - 0.01), server.is_ready(REST_S)) == (0.0, False, True)
    server.probing = True
    assert not server.is_ready(REST_S)
    server.probing = False
    server.fails("500", REST_S)
    assert (server.failing_since, server.is_ready(REST_S), server.is_ready(2 * REST_S)) == (0.0, False, True)
    server.works()
    assert server.failing_since is None
    server.fails("500", 2 * REST_S)
    assert server.is_ready(2 * REST_S), "one failure is none"


def test_a_session_keeps_its_server_and_a_retry_goes_to_another() -> None:
    three = [Server(url) for url in "abc"]
    sessions = [f"w{i}" for i in range(300)]
    homes = {session: choose(three, session, 0, 0.0) for session in sessions}
    shares = [sum(home is server for home in homes.values()) for server in three]
    assert min(shares) > 70
    for session, home in homes.items():
        assert {choose(three, session, retry, 0.0).url for retry in range(3)} == set("abc")  # type: ignore[union-attr]
        assert choose(three, session, 3, 0.0) is home
    three[0].rests_until = 1.0
    for session, home in homes.items():
        now = choose(three, session, 0, 0.0)
        assert now is home if home is not three[0] else now in three[1:]
    assert {session: choose(three, session, 0, 1.0) for session in sessions} == homes


def test_a_server_that_is_much_busier_than_others_gets_no_more() -> None:
    busy, idle = two = [Server("a", in_flight=2 * SLACK + 1), Server("b")]
    assert {choose(two, f"w{i}", 0, 0.0).url for i in range(50)} == {"b"}  # type: ignore[union-attr]
    busy.in_flight -= 1
    assert {choose(two, f"w{i}", 0, 0.0).url for i in range(50)} == {"a", "b"}  # type: ignore[union-attr]
    idle.rests_until = 1.0
    assert choose(two, "w0", 0, 0.0) is busy
    busy.rests_until = 1.0
    assert choose(two, "w0", 0, 0.0) is None
