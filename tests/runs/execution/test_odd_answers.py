"""What servers of chat completions answer besides a plain answer, and what becomes of the run."""

import asyncio
import json
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from django.test import Client

from runs.models import CallStatus, Event, Run, RunStatus, Step, StepKind, ToolCall
from runs.streams.transcript import remark_of
from teammates.access import Access
from teammates.models import Model
from teammates.providers import Connection
from teammates.providers.adapting import adapt
from teammates.providers.base import ModelRequest, ProviderError, UserMessage
from teammates.providers.openai import make_client
from teammates.providers.vendor import VendorClient
from tests.factories import browser_of
from tests.fake_models import STREAM, Answer, FakeModels, chat, page, refused
from tests.runs.execution.working import finish, run_on, types

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("home")]
CALL = {"name": "list_files", "arguments": ""}


def answered(access: Access, models: FakeModels, *answers: Answer, model: str = "ok") -> Run:
    """A run whose model calls are answered so, one after the other; later ones plainly."""
    models.answers = list(answers)
    return finish(run_on(access, models, "openai_compatible", model))


def said(run: Run) -> str:
    assert run.status == RunStatus.COMPLETED, run.error_message
    assert run.answer is not None
    return str(run.answer.content)


def test_a_refusal_is_the_answer_and_marked(alice: Access, models: FakeModels) -> None:
    run = answered(alice, models, chat({"refusal": "I can't "}, {"refusal": "help with that."}))
    assert said(run) == "I can't help with that."
    assert run.stop_reason == "refusal"
    assert len(models.requests) == 1
    assert (
        "declined to answer" in browser_of(alice).get(f"/threads/{run.thread_id}/").content.decode()
    )


def test_what_the_filter_stopped_says_so_and_costs(alice: Access, models: FakeModels) -> None:
    run = answered(alice, models, chat(finish="content_filter"))
    assert (run.status, run.error_class) == (RunStatus.FAILED, "provider.filtered")
    assert "filter of openai_compatible ok" in run.error_message
    assert (run.input_tokens, len(models.requests)) == (100, 1)
    cut = answered(alice, models, chat({"content": "So"}, finish="content_filter"), model="other")
    assert (said(cut), cut.stop_reason) == ("So", "content_filter")


def test_an_empty_answer_is_asked_for_once_more(alice: Access, models: FakeModels) -> None:
    run = answered(alice, models, chat())
    assert said(run) == "Hello wörld"
    assert len(models.requests) == 2
    assert run.input_tokens == 200  # of both
    again = answered(alice, models, chat(), chat({"content": " \n"}), model="other")
    assert (again.status, again.error_class) == (RunStatus.FAILED, "provider.empty_answer")
    assert again.error_message.startswith("other gave an empty answer.")


def test_an_answer_that_was_cut_off_is_marked_and_goes_on_once(
    alice: Access, models: FakeModels
) -> None:
    run = answered(alice, models, chat({"content": "One, two,"}, finish="length"))
    assert (said(run), run.stop_reason) == ("One, two,", "max_tokens")
    browser = browser_of(alice)
    shown = browser.get(f"/threads/{run.thread_id}/").content.decode()
    assert "output limit and was cut off" in shown
    assert _continue(browser, run) == _continue(browser, run) == 2
    newest = Run.objects.filter(thread=run.thread_id).latest("position")
    assert newest.prompt is not None
    assert newest.prompt.content == "Go on exactly where you stopped."
    assert _continue(browser, newest) == 2  # refused: it is whole


def _continue(browser: Client, run: Run) -> int:
    assert browser.post(f"/runs/{run.pk}/continue/").status_code == 302
    return Run.objects.filter(thread=run.thread_id).count()


def test_thoughts_that_used_up_the_limit_say_what_to_raise(
    alice: Access, models: FakeModels
) -> None:
    run = answered(alice, models, chat({"reasoning": "Hm"}, finish="length"))
    assert (run.status, run.error_class) == (RunStatus.FAILED, "provider.output_limit")
    assert "Raise its output limit" in run.error_message


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
def test_thoughts_are_thoughts_under_either_name(
    alice: Access, models: FakeModels, field: str
) -> None:
    run = answered(alice, models, chat({field: "Hm."}, {"content": "Hi"}))
    assert said(run) == "Hi"
    assert _thoughts(run) == "Hm."


@pytest.mark.parametrize("size", [1, 3, 50])
def test_thoughts_between_tags_are_thoughts(alice: Access, models: FakeModels, size: int) -> None:
    whole = "<think>\nHm, yes.\n</think>\n\nHello you"
    pieces = [{"content": whole[at : at + size]} for at in range(0, len(whole), size)]
    run = answered(alice, models, chat(*pieces))
    assert said(run) == "Hello you"
    assert _thoughts(run).strip() == "Hm, yes."


def _thoughts(run: Run) -> str:
    deltas = Event.objects.filter(run=run, type="message.delta").order_by("seq")
    return "".join(e.data["content_delta"] for e in deltas if e.data.get("channel") == "thinking")


def test_the_old_function_call_is_called(alice: Access, models: FakeModels) -> None:
    pieces = [{"function_call": CALL}, {"function_call": {"arguments": "{}"}}]
    run = answered(alice, models, chat(*pieces, finish="function_call"))
    assert said(run) == "Hello wörld"
    assert "tool.call" in types(run)
    sent = models.requests[1]["body"]["messages"]
    assert [m["role"] for m in sent[-2:]] == ["assistant", "tool"]


def _calls(*calls: tuple[str | None, str]) -> list[dict[str, Any]]:
    """Calls of a tool with ids and arguments."""
    return [
        {
            "tool_calls": [
                {"index": n, "function": {"name": "list_files", "arguments": arguments}}
                | ({"id": id} if id else {})
            ]
        }
        for n, (id, arguments) in enumerate(calls)
    ]


@pytest.mark.parametrize(
    "calls", [_calls((None, "{}")), _calls(("x", "{}"), ("x", "{}")), _calls(("", ""), ("y", ""))]
)
def test_calls_without_an_id_or_with_the_same_are_called(
    alice: Access, models: FakeModels, calls: list[dict[str, Any]]
) -> None:
    run = answered(alice, models, chat(*calls, finish="tool_calls"))
    assert said(run) == "Hello wörld"
    assert types(run).count("tool.call") == len(calls)
    sent = models.requests[1]["body"]["messages"]
    asked = [call["id"] for call in sent[-1 - len(calls)]["tool_calls"]]
    assert [m["tool_call_id"] for m in sent[-len(calls) :]] == asked
    assert len(set(asked)) == len(calls)
    started = Event.objects.filter(run=run, type="tool.call").values_list("data", flat=True)
    assert {one["tool_call_id"] for one in started} == set(asked)


@pytest.mark.parametrize("arguments", ["null", " null ", None, ""])
def test_a_call_without_arguments_is_made(
    alice: Access, models: FakeModels, arguments: str | None
) -> None:
    call = {"index": 0, "id": "a", "type": "function"}
    made = call | {"function": {"name": "list_files", "arguments": arguments}}
    run = answered(alice, models, chat({"tool_calls": [made]}, finish="tool_calls"))
    assert ToolCall.objects.get(run=run).status == CallStatus.DONE


def test_thoughts_that_are_parts_of_what_is_said_are_thoughts(
    alice: Access, models: FakeModels
) -> None:
    thoughts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": word}]}
        for word in ("Let ", "me")
    ]
    run = answered(
        alice, models, chat({"content": thoughts[:1]}, {"content": thoughts[1:]}, {"content": "Hi"})
    )
    assert said(run) == "Hi"
    step = Step.objects.get(run=run)
    assert "Let me" in json.dumps(step.response)


def test_a_conversation_that_is_too_long_is_summarised_and_goes_on(
    alice: Access, models: FakeModels
) -> None:
    too_long = refused(
        400,
        "This model's maximum context length is 8192 tokens. However, your messages resulted in "
        "9000 tokens.",
        "context_length_exceeded",
    )
    calls = chat(*_calls(("a", "{}")), finish="tool_calls")
    summary = chat({"content": "What was done so far."})
    run = answered(alice, models, calls, too_long, too_long, summary)  # with a shorter answer, too
    assert said(run) == "Hello wörld"
    kinds = list(Step.objects.filter(run=run).order_by("number").values_list("kind", flat=True))
    assert StepKind.COMPACTION in kinds
    adjusted = _adjusted(run)
    assert adjusted["context_window"] == 8192
    assert Model.objects.get(alias="openai_compatible-ok").context_window == 8192


def _adjusted(run: Run) -> dict[str, Any]:
    event = Event.objects.filter(run=run, type="run.llm.adjusted").earliest("seq")
    remark = remark_of(event)  # type: ignore[arg-type]
    assert remark is not None
    assert remark[0].endswith(".")
    return dict(event.data)


def test_what_cannot_be_shorter_fails_with_what_to_do(alice: Access, models: FakeModels) -> None:
    too_long = refused(400, "maximum context length is 50 tokens", "context_length_exceeded")
    run = answered(alice, models, too_long)
    assert (run.status, run.error_class) == (RunStatus.FAILED, "provider.context_too_long")
    assert "Start a new thread" in run.error_message


def test_an_answer_that_leaves_no_room_for_the_question_is_asked_for_shorter(
    alice: Access, models: FakeModels
) -> None:
    no_room = refused(
        400,
        "This model's maximum context length is 8192 tokens. However, you requested 8203 tokens "
        "(11 in the messages, 8192 in the completion).",
        "context_length_exceeded",
    )
    run = answered(alice, models, no_room)
    assert said(run) == "Hello wörld"
    assert [_limit(request["body"]) for request in models.requests] == [8192, 2048]
    model = Model.objects.get(alias="openai_compatible-ok")
    assert (model.context_window, model.max_output_tokens) == (8192, 2048)


@pytest.mark.parametrize(
    "words",
    [
        "Your input exceeds the context window of this model. Please adjust your input.",
        "the request exceeds the available context size, try increasing it",
        "Prompt contains 9000 tokens and 0 draft tokens, too large for model with 8192 maximum "
        "context length",
    ],
)
def test_a_window_that_nobody_names_is_found_by_asking_for_less(
    alice: Access, models: FakeModels, words: str
) -> None:
    calls = chat(*_calls(("a", "{}")), finish="tool_calls")
    run = answered(alice, models, calls, refused(400, words), chat({"content": "So far."}))
    assert said(run) == "Hello wörld"
    kinds = list(Step.objects.filter(run=run).values_list("kind", flat=True))
    assert StepKind.COMPACTION in kinds


def test_a_refusal_is_no_summary(alice: Access, models: FakeModels) -> None:
    calls = chat(*_calls(("a", "{}")), finish="tool_calls")
    too_long = refused(400, "maximum context length is 8192 tokens", "context_length_exceeded")
    no = chat({"refusal": "I can't help with that."})
    run = answered(alice, models, calls, too_long, too_long, no)
    assert said(run) == "Hello wörld"
    assert "I can't help" not in str(models.requests[-1]["body"]["messages"])


def test_a_lower_output_limit_is_kept_and_remembered(alice: Access, models: FakeModels) -> None:
    lower = refused(
        400,
        "max_tokens is too large: 8192. This model supports at most 4096 completion tokens, "
        "whereas you provided 8192.",
        "invalid_value",
    )
    run = answered(alice, models, lower)
    assert said(run) == "Hello wörld"
    limits = [_limit(request["body"]) for request in models.requests]
    assert limits == [8192, 4096]
    assert Model.objects.get(alias="openai_compatible-ok").max_output_tokens == 4096
    assert _adjusted(run)["max_output_tokens"] == 4096


def _limit(body: dict[str, Any]) -> int:
    return int(body.get("max_completion_tokens") or body["max_tokens"])


@pytest.mark.parametrize(
    ("answer", "error_class", "says"),
    [
        (
            page(413, "<html><body><h1>413 Request Entity Too Large</h1></body></html>"),
            "provider.too_large",
            "The request is too large for The model server. Attach less, or start a new thread.",
        ),
        (
            refused(400, "Unknown parameter: 'effort'"),
            "provider.rejected",
            "The model server refused the request: Unknown parameter: 'effort'.",
        ),
        (
            refused(403, "No access"),
            "provider.unauthorized",
            "The model server refused the key. Nothing was run. Check the key in Models & prices.",
        ),
        (
            (418, {"Content-Type": "text/html"}, [b"<html><title>I'm a teapot &amp;c</title>"]),
            "provider.rejected",
            "The model server answered 418: I'm a teapot &c.",
        ),
        (
            refused(429, "You exceeded your current quota", "insufficient_quota"),
            "provider.quota_exceeded",
            "The quota at The model server is used up. Raise it there, then try again.",
        ),
    ],
)
def test_refusals_are_plain_sentences(
    alice: Access, models: FakeModels, answer: Answer, error_class: str, says: str
) -> None:
    run = answered(alice, models, answer)
    assert (run.status, run.error_class, run.error_message) == (
        RunStatus.FAILED,
        error_class,
        says,
    )


@pytest.mark.parametrize(
    "answer",
    [
        refused(408, "Timeout"),
        refused(429, "Slow down", "rate_limit_exceeded", retry_after_ms="20"),
        refused(500, "Oops"),
        page(502, "<html><title>502 Bad Gateway</title></html>"),
        refused(503, "Unavailable"),
        refused(529, "Overloaded"),
        (
            200,
            {"Content-Type": "text/event-stream"},
            [b'data: {"error":{"message":"x","code":500}}\n\n'],
        ),
        (200, {"Content-Type": "application/json"}, [b'{"error":{"message":"x","code":503}}']),
        (200, {"Content-Type": "application/json"}, [b'{"error":"x"}']),
        chat({"content": "Hal"}, finish=None),
    ],
)
def test_what_passes_is_tried_again(alice: Access, models: FakeModels, answer: Answer) -> None:
    run = answered(alice, models, answer)
    assert said(run) == "Hello wörld"
    assert types(run).count("run.llm.retry") == 1


@pytest.mark.parametrize(
    ("headers", "delay"), [({"retry_after_ms": "1500"}, 1500), ({"retry_after": "1"}, 1000)]
)
def test_it_waits_as_long_as_it_is_told(
    alice: Access, models: FakeModels, headers: dict[str, str], delay: int
) -> None:
    run = answered(alice, models, refused(429, "Slow down", "rate_limit_exceeded", **headers))
    assert said(run) == "Hello wörld"
    assert Event.objects.get(run=run, type="run.llm.retry").data["delay_ms"] == delay


def test_it_waits_until_when_it_is_told(alice: Access, models: FakeModels) -> None:
    at = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=4)
    date = format_datetime(at, usegmt=True)
    no = refused(429, "Slow down", "rate_limit_exceeded", retry_after=date)
    run = answered(alice, models, no)
    assert said(run) == "Hello wörld"
    event = Event.objects.get(run=run, type="run.llm.retry")
    assert event.created_at + timedelta(milliseconds=event.data["delay_ms"] + 1) >= at


def test_an_error_in_the_middle_of_an_answer_is_tried_again(
    alice: Access, models: FakeModels
) -> None:
    broken = b'data: {"error":{"message":"Overloaded","code":503}}\n\n'
    status, kind, pieces = chat({"content": "Half"}, finish=None, usage=False, done=False)
    run = answered(alice, models, (status, kind, [*pieces, broken]))
    assert said(run) == "Hello wörld"
    assert types(run).count("run.llm.retry") == 1


def test_usage_that_is_never_told_is_estimated(alice: Access, models: FakeModels) -> None:
    run = answered(alice, models, chat({"content": "Hello there"}, usage=False))
    assert said(run) == "Hello there"
    assert run.usage_estimated
    assert run.input_tokens
    assert run.output_tokens
    assert run.cost


def test_usage_told_on_the_way_is_not_counted_twice(alice: Access, models: FakeModels) -> None:
    status, kind, pieces = chat({"content": "Hi"}, usage=False)
    told = [
        b"data: " + json.dumps({"id": "c1", "choices": [], "usage": usage}).encode() + b"\n\n"
        for usage in (
            {"prompt_tokens": 100, "completion_tokens": 1, "total_tokens": 101},
            {"prompt_tokens": 100, "completion_tokens": 7, "total_tokens": 107},
        )
    ]
    run = answered(alice, models, (status, kind, [pieces[0], *told, *pieces[1:]]))
    assert said(run) == "Hi"
    assert (run.input_tokens, run.output_tokens) == (100, 7)


@pytest.mark.parametrize("size", [1, 7])
def test_comments_line_ends_and_cut_characters_change_nothing(
    alice: Access, models: FakeModels, size: int
) -> None:
    _, kind, pieces = chat({"content": "Grüße, "}, {"content": "世界"}, done=False)
    wire = b": keep-alive\r\n\r\n" + b"".join(pieces).replace(b"\n", b"\r\n")
    wire = wire.replace(b"\\u00fc", "ü".encode()).replace(b"\\u4e16", "世".encode())
    run = answered(
        alice, models, (200, kind, [wire[at : at + size] for at in range(0, len(wire), size)])
    )
    assert said(run) == "Grüße, 世界"


def test_content_as_a_list_of_parts_is_text(alice: Access, models: FakeModels) -> None:
    run = answered(alice, models, chat({"content": [{"type": "text", "text": "Hi"}]}))
    assert said(run) == "Hi"


@pytest.mark.parametrize(
    ("said", "before", "after"),
    [
        (
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
            "'max_completion_tokens' instead.",
            "max_tokens",
            "max_completion_tokens",
        ),
        ("Unknown parameter: 'max_completion_tokens'", "max_completion_tokens", "max_tokens"),
    ],
)
def test_the_name_of_the_output_limit_is_the_one_that_is_taken(
    alice: Access, models: FakeModels, said: str, before: str, after: str
) -> None:
    assert adapt(said)
    client = make_client(Connection("openai_compatible", models.url, may_be_private=True))
    client._profiles["m"] = {
        "openai_chat_supports_max_completion_tokens": before == "max_completion_tokens"
    }
    models.answers = [refused(400, said), chat({"content": "Hi"}), chat({"content": "Hi"})]
    assert _texts_of(client, times=2) == ["Hi", "Hi"]
    names = [name for r in models.requests for name in (before, after) if name in r["body"]]
    assert names == [before, after, after]  # learned


def _texts_of(client: VendorClient, *, times: int, at_once: bool = False) -> list[str]:
    async def ask() -> str:
        request = ModelRequest("m", "Be brief.", [UserMessage("Hello")])
        async with client.call(request) as call:
            async for _ in call:
                pass
            return call.turn.text

    async def ask_all() -> list[str]:
        if at_once:
            return list(await asyncio.gather(*(ask() for _ in range(times))))
        return [await ask() for _ in range(times)]

    return asyncio.run(ask_all())


def test_a_server_that_wants_neither_word_is_given_up(models: FakeModels) -> None:
    client = make_client(Connection("openai_compatible", models.url, may_be_private=True))
    wants = "Use 'max_completion_tokens' instead.", "Unknown parameter: 'max_completion_tokens'"
    models.answers = [refused(400, wants[n % 2]) for n in range(20)]
    with pytest.raises(ProviderError):
        _texts_of(client, times=1)
    assert len(models.requests) <= 3


def test_calls_side_by_side_all_learn_what_the_server_wants(models: FakeModels) -> None:
    client = make_client(Connection("openai_compatible", models.url, may_be_private=True))
    refusal, answer = refused(400, "System role not supported"), chat({"content": "Hi"})
    models.answer = lambda body: refusal if body["messages"][0]["role"] == "system" else answer
    assert _texts_of(client, times=3, at_once=True) == ["Hi", "Hi", "Hi"]


@pytest.mark.parametrize(
    ("words", "wants"),
    [
        ("System role not supported", True),
        ("messages[0].role 'system' is not supported by this model", True),
        ("Developer instruction is not enabled for models/gemma-3-27b-it", True),
        ("The system could not process an image in this message", False),
        ("Invalid role: 'tool'", False),
    ],
)
def test_who_refuses_a_system_role(words: str, wants: bool) -> None:
    assert bool(adapt(words)) == wants


def test_instructions_go_along_where_there_is_no_system_role(
    alice: Access, models: FakeModels
) -> None:
    run = answered(alice, models, refused(400, "System role not supported"))
    assert said(run) == "Hello wörld"
    first, second = (request["body"]["messages"] for request in models.requests)
    assert first[0]["role"] == "system"
    assert [m["role"] for m in second] == ["user"]
    assert second[0]["content"] == f"{first[0]['content']}\n\n{first[1]['content']}"


@pytest.mark.parametrize(
    ("words", "wants"),
    [
        ("registry.ollama.ai/library/gemma3:4b does not support tools", True),
        ("No endpoints found that support tool use. Try another model.", True),
        ("`tool calling` is not supported with this model", True),
        ("This model does not support function calling", True),
        ('"auto" tool choice requires --enable-auto-tool-choice to be set', True),
        ("tools[3].function.parameters: this schema is not supported", False),
        ("Invalid role: 'tool'", False),
    ],
)
def test_who_takes_no_tools(words: str, wants: bool) -> None:
    assert bool(adapt(words, has_tools=True)) == wants
    assert not adapt(words)


def test_a_model_that_takes_no_tools_answers_without(alice: Access, models: FakeModels) -> None:
    no = refused(400, "registry.ollama.ai/library/gemma3:4b does not support tools")
    run = answered(alice, models, no)
    assert said(run) == "Hello wörld"
    first, second = (request["body"] for request in models.requests)
    assert first["tools"]
    assert "tools" not in second
    assert "You cannot call tools here" in second["messages"][0]["content"]


def test_a_server_that_falls_silent_is_given_up(
    alice: Access, models: FakeModels, settings: Any
) -> None:
    settings.MODEL_SILENCE_SECONDS = 0.2
    models.silent_seconds = 1.5
    run = answered(alice, models, chat({"content": "Half"}), chat({"content": "Whole"}))
    assert said(run) == "Whole"
    retry = Event.objects.get(run=run, type="run.llm.retry").data
    assert retry["error_class"] == "provider.silent"


def test_a_server_may_take_longer_to_begin_than_between_two_bytes(
    alice: Access, models: FakeModels, settings: Any
) -> None:
    settings.MODEL_SILENCE_SECONDS = 0.2

    def late(body: Any) -> Answer:
        time.sleep(0.8)
        return chat({"content": "At last"})

    models.answer = late
    assert said(answered(alice, models)) == "At last"


def test_a_server_that_never_begins_is_given_up(
    alice: Access, models: FakeModels, settings: Any
) -> None:
    settings.MODEL_FIRST_SECONDS = 0.3
    began: list[float] = []

    def late_once(body: Any) -> Answer:
        began.append(time.monotonic())
        time.sleep(0 if began[1:] else 1.5)
        return chat({"content": "At last"})

    models.answer = late_once
    run = answered(alice, models)
    assert said(run) == "At last"
    retry = Event.objects.get(run=run, type="run.llm.retry").data
    assert retry["error_class"] == "provider.silent"


def test_a_server_that_only_keeps_alive_is_given_up_too(
    alice: Access, models: FakeModels, settings: Any
) -> None:
    settings.MODEL_FIRST_SECONDS = 0.3
    pings = (200, STREAM, [b": ping\n\n"] * 400)
    run = answered(alice, models, pings)
    assert said(run) == "Hello wörld"
    retries = Event.objects.filter(run=run, type="run.llm.retry")  # a busy machine is silent, too
    assert {retry.data["error_class"] for retry in retries} == {"provider.silent"}


def piece(id: str | None, name: str | None, arguments: str, index: int = 0) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"tool_calls": [{"index": index, "id": id, "type": "function", "function": function}]}


WHOLE = '{"name": "a.txt", "content": "x"}'
BOTH = [("list_files", "done"), ("write_file", "done")]


@pytest.mark.parametrize(
    ("deltas", "made"),
    [
        ([piece("a", "list_files", "{}"), piece("b", "write_file", WHOLE)], BOTH),  # Ollama's
        ([piece("a", "list_files", ""), piece("b", "write_file", WHOLE)], BOTH),
        ([piece(None, "list_files", "{}"), piece(None, "write_file", WHOLE)], BOTH),
        (
            [piece("a", "write_file", WHOLE[:9]), piece("a", "write_file", WHOLE[9:])],
            [("write_file", "done")],
        ),
        (
            [piece("a", "write_file", WHOLE[:9]), piece("b", "write_file", WHOLE[9:])],
            [("write_file", "done")],
        ),
        (
            [
                piece("a", "write_", ""),
                piece(None, "file", WHOLE[:9]),
                piece(None, None, WHOLE[9:]),
            ],
            [("write_file", "done")],
        ),
    ],
)
def test_calls_are_told_apart_however_their_pieces_are_numbered_and_named(
    alice: Access, models: FakeModels, deltas: list[dict[str, Any]], made: list[tuple[str, str]]
) -> None:
    run = answered(alice, models, chat(*deltas, finish="tool_calls"))
    assert said(run) == "Hello wörld"
    calls = ToolCall.objects.filter(run=run).order_by("pk")
    assert list(calls.values_list("name", "status")) == made


def test_a_call_that_the_output_limit_cut_off_is_called_that(
    alice: Access, models: FakeModels
) -> None:
    cut = chat(piece("a", "write_file", WHOLE[:-5]), finish="length")
    answered(alice, models, cut)
    told = models.requests[1]["body"]["messages"][-1]["content"]
    assert "reached its limit of" in told
    assert "write less at once" in told
    run = answered(alice, models, *[cut] * 9, model="again")
    assert (run.status, run.error_class) == (RunStatus.FAILED, "provider.output_limit")
    assert "Raise its output limit" in run.error_message


@pytest.mark.parametrize("reason", ["error", "insufficient_system_resource"])
def test_an_answer_that_its_server_could_not_finish_is_asked_for_again(
    alice: Access, models: FakeModels, reason: str
) -> None:
    run = answered(alice, models, chat({"content": "Half of"}, finish=reason))
    assert said(run) == "Hello wörld"
    assert types(run).count("run.llm.retry") == 1
