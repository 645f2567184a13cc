"""An answer that goes on behind what an earlier attempt said: as if it had never been cut."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.test_chat_detokenizer import END, STOPS, TEXT, TOKENIZER
from worker.chat.engine import ChatRequest, Delta
from worker.chat.request_state import RequestState


def deltas(request: ChatRequest, generated: list[int]) -> list[Delta]:
    answer, found = RequestState(request, TOKENIZER, {END}), []
    for n, token in enumerate(generated, 1):
        found.append(answer.extend([token], complete=n == len(generated)))
        if found[-1].finish_reason:
            break
    return found


@given(TEXT, st.booleans(), STOPS, st.data())
@settings(deadline=None)
def test_the_rest_is_the_same_wherever_it_was_cut(
    text: str, ended: bool, stop: list[str], data: st.DataObject
) -> None:
    ids = [*TOKENIZER.encode(f"the{text}").ids, *([END] if ended else [])]
    request = ChatRequest("a", (1,), 100, stop=tuple(stop))
    whole = deltas(request, ids)
    cut = data.draw(st.integers(0, len(whole) - 1))
    assert deltas(replace(request, generated_ids=tuple(ids[:cut])), ids[cut:]) == whole[cut:]


def test_no_room_brings_what_was_held_back() -> None:
    said = tuple(TOKENIZER.encode("the cat").ids)
    full = ChatRequest("a", (1,), len(said), stop=("cats",), generated_ids=said)
    assert RequestState(full, TOKENIZER, {END}).extend((), complete=True) == Delta("a", "cat", (), "length")
