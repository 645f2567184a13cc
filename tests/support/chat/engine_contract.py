"""Requirements for every chat engine on every device: `tests/contract` and `tests/gpu` run them."""

import threading
from collections.abc import Sequence

import pytest

from tests.support.chat.engines import SHORT_QUESTION, StartedEngine, chat
from tests.support.chat.requests import chat_request
from worker.chat.engine import Delta
from worker.jobs.chat.sampling import COMMON_PARAMETERS, SamplingParams
from worker.jobs.errors import EngineFailed


class ChatEngineContract:
    """Tests of an engine. A subclass runs them with the fixture `started` of its own module."""

    def test_request_gets_one_finish_in_last_delta(self, started: StartedEngine) -> None:
        runs = started.run_requests(*[chat(started, str(n), max_tokens=3 + n) for n in range(8)])
        for deltas in runs.values():
            assert [delta.finish_reason is not None for delta in deltas] == [False] * (len(deltas) - 1) + [
                True
            ]

    def test_engine_supports_common_parameters(self, started: StartedEngine) -> None:
        assert COMMON_PARAMETERS <= started.engine.supports <= SamplingParams.model_fields.keys()

    def test_deltas_come_from_one_engine_thread(self, started: StartedEngine) -> None:
        started.run_requests(chat(started, "a"))
        assert len(started.recorder.threads) == 1
        assert threading.get_ident() not in started.recorder.threads

    @pytest.mark.parametrize("max_tokens", [1, 2, 7])
    def test_max_tokens_is_exact(self, started: StartedEngine, max_tokens: int) -> None:
        started.run_requests(chat(started, "a", max_tokens=max_tokens))
        assert len(started.recorder.ids("a")) == max_tokens
        assert started.recorder.ends("a")[0].finish_reason == "length"

    def test_ignore_eos_continues_past_end_of_sequence(self, started: StartedEngine) -> None:
        requests = [
            chat(started, "as ever", SHORT_QUESTION),
            chat(started, "on and on", SHORT_QUESTION, ignore_eos=True),
            chat(started, "stopped", SHORT_QUESTION, ignore_eos=True, stop=["a", "o"]),
        ]
        started.run_requests(*requests)
        ends = {request.id: started.recorder.ends(request.id)[0].finish_reason for request in requests}
        assert ends == {"as ever": "stop", "on and on": "length", "stopped": "stop"}
        before, after = started.recorder.ids("as ever"), started.recorder.ids("on and on")
        assert (len(before) < 16, len(after)) == (True, 16)
        assert after[: len(before)] == before

    def test_slots_run_at_once_with_one_token_per_step(self, started: StartedEngine) -> None:
        names = [str(n) for n in range(started.engine.slots)]
        started.run_requests(*[chat(started, name, max_tokens=12) for name in names])
        together = [step for step in started.recorder.steps if len(step) == started.engine.slots]
        assert len(together) >= 8
        for step in started.recorder.steps:
            assert len({delta.id for delta in step}) == len(step)
            assert all(len(delta.token_ids) == 1 for delta in step)

    def test_more_requests_than_slots_all_end(self, started: StartedEngine) -> None:
        extra = [chat(started, str(n), max_tokens=4) for n in range(started.engine.slots + 3)]
        runs = started.run_requests(*extra)
        assert all(deltas[-1].finish_reason == "length" for deltas in runs.values())
        assert max(len(step) for step in started.recorder.steps) <= started.engine.slots

    def test_cancel_ends_within_one_step_and_frees_slot(self, started: StartedEngine) -> None:
        canceled_at: list[int] = []

        def cancel_at_third_step(deltas: Sequence[Delta]) -> None:
            if len(started.recorder.deltas("victim")) == 3 and not canceled_at:
                canceled_at.append(len(started.recorder.steps))
                started.engine.cancel("victim")

        started.recorder.hook = cancel_at_third_step
        others = [chat(started, str(n), max_tokens=20) for n in range(started.engine.slots - 1)]
        started.run_requests(chat(started, "victim", max_tokens=400), *others)
        (end,) = started.recorder.ends("victim")
        assert (end.finish_reason, end.text, end.token_ids) == ("canceled", "", ())
        assert end in started.recorder.steps[canceled_at[0]]
        assert len(started.recorder.deltas("victim")) == 4
        started.recorder.hook = None
        started.run_requests(*[chat(started, str(n)) for n in range(started.engine.slots)])

    def test_cancel_right_after_submit_gives_one_finish(self, started: StartedEngine) -> None:
        for n in range(20):
            started.engine.submit(chat(started, f"quick {n}", max_tokens=300))
            started.engine.cancel(f"quick {n}")
        started.recorder.wait_for(lambda: all(started.recorder.ends(f"quick {n}") for n in range(20)))
        runs = started.run_requests(*[chat(started, str(n)) for n in range(started.engine.slots)])
        assert not [step for step in started.recorder.steps for delta in step if delta.id.startswith("quick")]
        assert all(deltas[-1].finish_reason == "length" for deltas in runs.values())

    def test_request_id_may_be_used_again(self, started: StartedEngine) -> None:
        started.engine.submit(chat(started, "a", max_tokens=300))
        started.recorder.wait_for(lambda: bool(started.recorder.deltas("a")))
        started.engine.cancel("a")
        started.engine.submit(chat(started, "a", max_tokens=5))
        started.recorder.wait_for(lambda: len(started.recorder.ends("a")) == 2)
        assert [end.finish_reason for end in started.recorder.ends("a")] == ["canceled", "length"]

    @pytest.mark.parametrize("cut", [(0, 1), (5, 9), (11, 30)])
    def test_stop_string_ends_text_before_it(self, started: StartedEngine, cut: tuple[int, int]) -> None:
        started.run_requests(chat(started, "a"))
        text = started.recorder.text("a")
        stop = text[slice(*cut)]
        started.run_requests(chat(started, "a", stop=["never said", stop]))
        assert started.recorder.text("a") == text[: text.find(stop)]
        assert started.recorder.ends("a")[0].finish_reason == "stop"

    def test_characters_arrive_whole(self, started: StartedEngine) -> None:
        ask = "Repeat exactly: 🎉🎊🦄 こんにちは 你好 Ω≈ç√ 🎉🎊🦄"
        started.run_requests(chat(started, "a", ask, max_tokens=60))
        text = started.recorder.text("a")
        assert "\ufffd" not in text
        assert any(ord(character) > 0x2000 for character in text)

    def test_context_length_limits_answer(self, started: StartedEngine) -> None:
        limit = started.engine.context_length
        prompt = [*chat(started, "a").prompt, *[9] * limit][: limit - 3]
        started.run_requests(
            chat_request("last three", prompt, 50, temperature=0.0),
            chat_request("full", [*prompt, 1, 1, 1], 50),
            chat_request("over", [*prompt, 1, 1, 1, 1], 50),
            chat_request("empty", [], 50),
            chat_request("nothing left", prompt[:9], 1, generated_ids=(1,)),
        )
        ends = {delta.id: delta for step in started.recorder.steps for delta in step if delta.finish_reason}
        assert len(started.recorder.ids("last three")) <= 3
        assert ends["full"] == Delta("full", "", (), "length")
        assert ends["nothing left"] == Delta("nothing left", "", (), "length")
        assert (ends["over"].finish_reason, ends["empty"].finish_reason) == ("error", "error")
        assert isinstance(ends["over"].error, EngineFailed)
