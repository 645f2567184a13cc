"""Tests of the request state: a resumed answer continues as if it had never been interrupted."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.chat.byte_tokenizer import END, STOPS, TEXT, TOKENIZER
from tests.support.chat.requests import chat_request
from worker.chat.engine import ChatRequest, Delta
from worker.chat.request_state import RequestState


def deltas(request: ChatRequest, generated: list[int]) -> list[Delta]:
    state, found = RequestState(request, TOKENIZER, {END}), []
    for n, token in enumerate(generated, 1):
        found.append(state.add_tokens([token], complete=n == len(generated)))
        if found[-1].finish_reason:
            break
    return found


@given(TEXT, st.booleans(), STOPS, st.data())
@settings(deadline=None)
def test_request_state_resumes_identically_at_any_cut(
    text: str, ended: bool, stop: list[str], data: st.DataObject
) -> None:
    ids = [*TOKENIZER.encode(f"the{text}").ids, *([END] if ended else [])]
    request = chat_request("a", (1,), 100, stop=list(stop))
    whole = deltas(request, ids)
    cut = data.draw(st.integers(0, len(whole) - 1))
    assert deltas(replace(request, generated_ids=tuple(ids[:cut])), ids[cut:]) == whole[cut:]


def test_request_state_without_room_emits_held_back_text() -> None:
    generated = tuple(TOKENIZER.encode("the cat").ids)
    full = chat_request("a", (1,), len(generated), stop=["cats"], generated_ids=generated)
    delta = RequestState(full, TOKENIZER, {END}).add_tokens((), complete=True)
    assert delta == Delta("a", "cat", (), "length")
