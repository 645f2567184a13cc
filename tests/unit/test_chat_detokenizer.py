"""Text of tokens in pieces: nothing broken, nothing lost, nothing of a stop string."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from worker.chat.detokenizer import Detokenizer, StopStrings


def byte_tokenizer() -> Tokenizer:
    """A token a byte, a few merges, and one special token: characters fall apart as in real vocabularies."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("t", "h"), ("th", "e"), ("Ġ", "the"), ("ã", "ģ"), ("ð", "Ł")]
    names = [*letters, *("".join(pair) for pair in merges)]
    vocabulary = {name: n for n, name in enumerate(names)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|end|>"])
    return tokenizer


TOKENIZER = byte_tokenizer()
END = TOKENIZER.get_vocab()["<|end|>"]
TEXT = st.text(
    st.sampled_from("the cat 日本語🎉é\n")
    | st.characters(exclude_categories=["Cs"], exclude_characters="\ufffd"),
    max_size=40,
)
STOPS = st.lists(st.text("the ca日🎉", min_size=1, max_size=4), max_size=3)


def pieces(ids: list[int], stop: list[str]) -> tuple[list[str], bool]:
    detokenizer = Detokenizer(TOKENIZER, stop)
    texts = [detokenizer.push(token) for token in ids]
    return [*texts, detokenizer.finish()], detokenizer.stopped


def up_to(text: str, stop: list[str]) -> str:
    """The text before the stop string that is complete first; of several, before the longest."""
    for end in range(len(text) + 1):
        if found := [each for each in stop if text[:end].endswith(each)]:
            return text[: end - max(map(len, found))]
    return text


@given(TEXT, STOPS)
@settings(deadline=None)
def test_pieces_join_to_the_whole_up_to_the_stop(text: str, stop: list[str]) -> None:
    ids = [*TOKENIZER.encode(text).ids, END]
    whole = TOKENIZER.decode(ids, skip_special_tokens=True)
    said, stopped = pieces(ids, stop)
    assert stopped == any(each in whole for each in stop)
    assert "".join(said) == up_to(whole, stop)


@given(TEXT, st.data())
@settings(deadline=None)
def test_an_answer_cut_anywhere_has_no_half_characters(text: str, data: st.DataObject) -> None:
    ids = TOKENIZER.encode(text).ids
    said, _ = pieces(ids[: data.draw(st.integers(0, len(ids)))], [])
    assert text.startswith("".join(said))


@given(st.lists(st.integers(0, END), max_size=60))
@settings(deadline=None)
def test_any_ids_give_a_start_of_their_text(ids: list[int]) -> None:
    said, _ = pieces(ids, [])
    assert TOKENIZER.decode(ids, skip_special_tokens=True).startswith("".join(said))


@given(st.lists(st.text("ab", max_size=4), max_size=12), st.lists(st.text("ab", max_size=4), max_size=3))
def test_stop_strings_do_not_depend_on_how_the_text_comes(parts: list[str], stop: list[str]) -> None:
    strings = StopStrings(stop)
    said = "".join([*(strings.push(part) for part in parts), strings.finish()])
    stop = [each for each in stop if each]
    assert strings.found == any(each in "".join(parts) for each in stop)
    assert said == up_to("".join(parts), stop)
    assert strings.found or said == "".join(parts)


@pytest.mark.parametrize(
    ("parts", "stop", "expected"),
    [
        (["Hello wo", "rld"], ["world"], ["Hello ", ""]),
        (["a", "ab"], ["aab"], ["", ""]),
        (["a", "a", "c"], ["aab"], ["", "", "aac"]),
        (["one STOP two"], ["STOP", "one"], [""]),
        (["x<", "/", "s> y"], ["</s>"], ["x", "", ""]),
    ],
)
def test_what_may_begin_a_stop_string_is_held_back(
    parts: list[str], stop: list[str], expected: list[str]
) -> None:
    strings = StopStrings(stop)
    assert [strings.push(part) for part in parts] == expected


def test_nothing_comes_after_a_stop_string() -> None:
    strings = StopStrings(["b"])
    assert [strings.push(part) for part in ("abc", "def")] == ["a", ""]
    assert strings.finish() == ""
