"""What every chat engine keeps, whatever runs the model."""

import threading
from collections.abc import Callable, Sequence

import pytest

from tests.contract.conftest import BRIEF, Served, chat
from worker.chat.engine import ChatRequest, Delta
from worker.jobs.errors import EngineDied, EngineFailed


def test_every_request_ends_once_and_last(served: Served) -> None:
    runs = served.recorder.run(served.engine, *[chat(served, str(n), max_tokens=3 + n) for n in range(8)])
    for deltas in runs.values():
        assert [delta.finish_reason is not None for delta in deltas] == [False] * (len(deltas) - 1) + [True]


def test_deltas_come_from_one_thread_of_the_engine(served: Served) -> None:
    served.recorder.run(served.engine, chat(served, "a"))
    assert len(served.recorder.threads) == 1
    assert threading.get_ident() not in served.recorder.threads


@pytest.mark.parametrize("max_tokens", [1, 2, 7])
def test_max_tokens_is_exact(served: Served, max_tokens: int) -> None:
    served.recorder.run(served.engine, chat(served, "a", max_tokens=max_tokens))
    assert len(served.recorder.ids("a")) == max_tokens
    assert served.recorder.ends("a")[0].finish_reason == "length"


def test_an_ignored_end_of_sequence_ends_nothing(served: Served) -> None:
    requests = [
        chat(served, "as ever", BRIEF),
        chat(served, "on and on", BRIEF, ignore_eos=True),
        chat(served, "stopped", BRIEF, ignore_eos=True, stop=("a", "o")),
    ]
    served.recorder.run(served.engine, *requests)
    ends = {request.id: served.recorder.ends(request.id)[0].finish_reason for request in requests}
    assert ends == {"as ever": "stop", "on and on": "length", "stopped": "stop"}
    before, after = served.recorder.ids("as ever"), served.recorder.ids("on and on")
    assert (len(before) < 16, len(after)) == (True, 16)
    assert after[: len(before)] == before


def test_the_least_length_holds_whatever_the_model_wants(served: Served) -> None:
    requests = [chat(served, str(n), BRIEF, max_tokens=24, min_tokens=n) for n in (0, 3, 14, 99)]
    served.recorder.run(served.engine, *requests)
    wanted, same, longer, all_of_it = (served.recorder.ids(request.id) for request in requests)
    assert len(wanted) < 14
    assert same == wanted
    assert 14 <= len(longer) <= 24
    assert len(all_of_it) == 24
    assert longer[: len(wanted) - 1] == wanted[:-1]


def test_no_stop_string_is_found_before_the_least_length(served: Served) -> None:
    served.recorder.run(served.engine, chat(served, "a"))
    deltas = served.recorder.deltas("a")
    (early, at), late = next((d.text, n) for n, d in enumerate(deltas) if d.text.strip()), deltas[-2].text
    served.recorder.run(served.engine, chat(served, "b", stop=(early, late), min_tokens=at + 1))
    assert served.recorder.text("b").startswith(early)
    assert served.recorder.ends("b")[0].finish_reason == "stop"


def test_slots_run_at_once_a_token_each_in_turn(served: Served) -> None:
    names = [str(n) for n in range(served.engine.slots)]
    served.recorder.run(served.engine, *[chat(served, name, max_tokens=12) for name in names])
    together = [step for step in served.recorder.steps if len(step) == served.engine.slots]
    assert len(together) >= 8
    for step in served.recorder.steps:
        assert len({delta.id for delta in step}) == len(step)
        assert all(len(delta.token_ids) == 1 for delta in step)


def test_more_requests_than_slots_all_end(served: Served) -> None:
    extra = [chat(served, str(n), max_tokens=4) for n in range(served.engine.slots + 3)]
    runs = served.recorder.run(served.engine, *extra)
    assert all(deltas[-1].finish_reason == "length" for deltas in runs.values())
    assert max(len(step) for step in served.recorder.steps) <= served.engine.slots


def test_cancel_ends_within_one_step_and_frees_the_slot(served: Served) -> None:
    canceled_at: list[int] = []

    def cancel_at_third_step(deltas: Sequence[Delta]) -> None:
        if len(served.recorder.deltas("victim")) == 3 and not canceled_at:
            canceled_at.append(len(served.recorder.steps))
            served.engine.cancel("victim")

    served.recorder.hook = cancel_at_third_step
    others = [chat(served, str(n), max_tokens=20) for n in range(served.engine.slots - 1)]
    served.recorder.run(served.engine, chat(served, "victim", max_tokens=400), *others)
    (end,) = served.recorder.ends("victim")
    assert (end.finish_reason, end.text, end.token_ids) == ("canceled", "", ())
    assert end in served.recorder.steps[canceled_at[0]]
    assert len(served.recorder.deltas("victim")) == 4
    served.recorder.hook = None
    served.recorder.run(served.engine, *[chat(served, str(n)) for n in range(served.engine.slots)])


def test_a_waiting_request_takes_a_cancelled_ones_slot(served: Served) -> None:
    names = [str(n) for n in range(served.engine.slots)]
    requests = [chat(served, name, max_tokens=300) for name in names]
    for request in [*requests, chat(served, "waiting", max_tokens=2)]:
        served.engine.submit(request)
    served.recorder.wait_for(lambda: all(served.recorder.deltas(name) for name in names))
    served.engine.cancel("0")
    served.recorder.wait_for(lambda: bool(served.recorder.ends("waiting")))
    for name in names:
        served.engine.cancel(name)
    served.recorder.wait_for(lambda: all(served.recorder.ends(name) for name in names))
    assert [end.finish_reason for name in names for end in served.recorder.ends(name)] == ["canceled"] * len(
        names
    )


def test_cancel_straight_after_submit_gives_one_end(served: Served) -> None:
    for n in range(20):
        served.engine.submit(chat(served, f"quick {n}", max_tokens=300))
        served.engine.cancel(f"quick {n}")
    served.recorder.wait_for(lambda: all(served.recorder.ends(f"quick {n}") for n in range(20)))
    runs = served.recorder.run(served.engine, *[chat(served, str(n)) for n in range(served.engine.slots)])
    assert not [step for step in served.recorder.steps for delta in step if delta.id.startswith("quick")]
    assert all(deltas[-1].finish_reason == "length" for deltas in runs.values())


def test_cancel_of_unknown_and_finished_requests_is_ignored(served: Served) -> None:
    served.engine.cancel("nobody")
    served.recorder.run(served.engine, chat(served, "a", max_tokens=2))
    served.engine.cancel("a")
    served.engine.submit(chat(served, "b", max_tokens=2))
    served.recorder.wait_for(lambda: bool(served.recorder.ends("b")))
    assert len(served.recorder.ends("a")) == 1


def test_an_id_may_come_again(served: Served) -> None:
    served.engine.submit(chat(served, "a", max_tokens=300))
    served.recorder.wait_for(lambda: bool(served.recorder.deltas("a")))
    served.engine.cancel("a")
    served.engine.submit(chat(served, "a", max_tokens=5))
    served.recorder.wait_for(lambda: len(served.recorder.ends("a")) == 2)
    assert [end.finish_reason for end in served.recorder.ends("a")] == ["canceled", "length"]


@pytest.mark.parametrize("cut", [(0, 1), (5, 9), (11, 30)])
def test_stop_strings_end_the_text_before_them(served: Served, cut: tuple[int, int]) -> None:
    served.recorder.run(served.engine, chat(served, "a"))
    text = served.recorder.text("a")
    stop = text[slice(*cut)]
    served.recorder.run(served.engine, chat(served, "a", stop=("never said", stop)))
    assert served.recorder.text("a") == text[: text.find(stop)]
    assert served.recorder.ends("a")[0].finish_reason == "stop"


def test_a_stop_string_that_only_begins_holds_nothing_back_at_the_end(served: Served) -> None:
    served.recorder.run(served.engine, chat(served, "a"))
    text = served.recorder.text("a")
    served.recorder.run(served.engine, chat(served, "a", stop=(text[-3:] + "\0",)))
    assert served.recorder.text("a") == text
    assert served.recorder.ends("a")[0].finish_reason == "length"


def test_greedy_says_the_same_again(served: Served) -> None:
    served.recorder.run(served.engine, chat(served, "a"))
    first = served.recorder.text("a")
    served.recorder.run(served.engine, chat(served, "a"))
    assert served.recorder.text("a") == first != ""


def test_characters_come_whole(served: Served) -> None:
    ask = "Repeat exactly: 🎉🎊🦄 こんにちは 你好 Ω≈ç√ 🎉🎊🦄"
    served.recorder.run(served.engine, chat(served, "a", ask, max_tokens=60))
    text = served.recorder.text("a")
    assert "\ufffd" not in text
    assert any(ord(character) > 0x2000 for character in text)


def test_the_context_bounds_the_answer(served: Served) -> None:
    limit = served.engine.context_length
    prompt = [*chat(served, "a").prompt, *[9] * limit][: limit - 3]
    served.recorder.run(
        served.engine,
        ChatRequest("last three", prompt, 50, temperature=0.0),
        ChatRequest("full", [*prompt, 1, 1, 1], 50),
        ChatRequest("over", [*prompt, 1, 1, 1, 1], 50),
        ChatRequest("empty", [], 50),
        ChatRequest("nothing asked", prompt[:9], 0),
    )
    ends = {delta.id: delta for step in served.recorder.steps for delta in step if delta.finish_reason}
    assert len(served.recorder.ids("last three")) <= 3
    assert ends["full"] == Delta("full", "", (), "length")
    assert ends["nothing asked"] == Delta("nothing asked", "", (), "length")
    assert (ends["over"].finish_reason, ends["empty"].finish_reason) == ("error", "error")
    assert isinstance(ends["over"].error, EngineFailed)


def test_stop_ends_what_runs_and_takes_no_more(engine_name: str, serve: Callable[..., Served]) -> None:
    served = serve(engine_name, slots=2, context_length=256)
    for name in "ab":
        served.engine.submit(chat(served, name, max_tokens=150))
    served.recorder.wait_for(lambda: all(served.recorder.deltas(name) for name in "ab"))
    late = chat(served, "late")
    served.engine.stop()
    assert [end.finish_reason for name in "ab" for end in served.recorder.ends(name)] == ["error", "error"]
    assert served.recorder.broken == []
    with pytest.raises(EngineDied):
        served.engine.submit(late)
    served.engine.stop()


def test_a_dead_thread_ends_every_request_and_says_so_once(
    engine_name: str, serve: Callable[..., Served]
) -> None:
    served = serve(engine_name, slots=2, context_length=256)
    for name in "abc":
        served.engine.submit(chat(served, name, max_tokens=150))
    served.recorder.wait_for(lambda: all(served.recorder.deltas(name) for name in "ab"))
    words = served.break_down()
    served.recorder.wait_for(lambda: bool(served.recorder.broken))
    ends = [end for name in "abc" for end in served.recorder.ends(name)]
    assert [end.finish_reason for end in ends] == ["error"] * 3
    assert all(isinstance(end.error, EngineDied) and words in str(end.error) for end in ends)
    assert len(served.recorder.broken) == 1
    with pytest.raises(EngineDied):
        served.engine.submit(chat(served, "late"))
