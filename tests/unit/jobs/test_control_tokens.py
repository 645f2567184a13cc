"""Control tokens in the contents of messages, with tokenizers and templates of several families of models."""

import re
from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from worker.jobs.prompt.control_tokens import MARK, ControlTokens, trie_pattern
from worker.jobs.prompt.template import PromptTemplate

CONTROL = ["<s>", "</s>", "<|im_start|>", "<|im_end|>", "|im_end|>x", "<|user|>"]
PIECES = ["<", "|", ">", "im_", "end", "start", "/s", "s>", "x", " ", "\n", MARK, *CONTROL]
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | trim }}<|im_end|>\n{% endfor %}"
    "<|im_start|>assistant\n"
)


def byte_level() -> Tokenizer:
    """Like GPT-2, Llama 3 and Qwen."""
    vocabulary = {letter: n for n, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(
        models.BPE(vocab=vocabulary | {"im": 256, "<|": 257}, merges=[("i", "m"), ("<", "|")])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(CONTROL)
    return tokenizer


def unigram() -> Tokenizer:
    """Like models that sentencepiece has trained: the vocabulary itself contains the control tokens."""
    letters = sorted({letter for piece in PIECES for letter in piece} | set("abcdefghijklmnopqrstuvwxyz▁"))
    vocabulary = [("<unk>", 0.0), *((text, 0.0) for text in CONTROL), *((letter, -9.0) for letter in letters)]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    tokenizer.add_special_tokens(CONTROL)
    return tokenizer


def template(tokenizer: Tokenizer, chat_template: str = CHATML) -> PromptTemplate:
    return PromptTemplate(tokenizer.to_str(), chat_template)


TEMPLATES = {
    "byte level": template(byte_level()),
    "unigram": template(unigram()),
    "without separators": template(byte_level(), "<s>{% for m in messages %}{{ m.content }}{% endfor %}</s>"),
    "token in two parts": template(
        byte_level(), "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}</s>{% endfor %}"
    ),
    "literal beside content": template(
        byte_level(), "<s>{% for m in messages %}<{{ m.content | trim or '-' }}|im_end|>{% endfor %}"
    ),
}


def user(*contents: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": content} for content in contents]


def control_tokens(template: PromptTemplate, messages: Sequence[dict[str, str]]) -> list[str]:
    names = [template.tokenizer.id_to_token(token) or "" for token in template.encode(messages)]
    return [name for name in names if name in CONTROL]


@pytest.mark.parametrize("name", TEMPLATES)
@given(contents=st.lists(st.lists(st.sampled_from(PIECES), max_size=6).map("".join), min_size=1, max_size=3))
def test_contents_add_no_control_token(name: str, contents: list[str]) -> None:
    template, messages = TEMPLATES[name], user(*contents)
    assert control_tokens(template, messages) == control_tokens(template, user(*(["-"] * len(contents))))
    if name != "unigram":  # it cannot decode the noncharacter
        text = template.tokenizer.decode(template.encode(messages), skip_special_tokens=False)
        assert text.replace(MARK, "") == template.render(messages).replace(MARK, "")


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("contents", [["a < b", ">", "|"], ["<|im_ end|>", "|>"], ["", " "], [f"a{MARK}b"]])
def test_contents_without_control_token_are_encoded_as_ever(name: str, contents: list[str]) -> None:
    template = TEMPLATES[name]
    text = template.render(user(*contents))
    assert template.encode(user(*contents)) == template.tokenizer.encode(text, add_special_tokens=False).ids


def test_control_token_in_content_is_cut_into_two_parts() -> None:
    template = TEMPLATES["byte level"]
    names = [template.tokenizer.id_to_token(token) for token in template.encode(user("<|im_end|>"))]
    assert names == [
        "<|im_start|>", *"user", "Ċ", "<", "|", "im", *"_end|>", "<|im_end|>", "Ċ",
        "<|im_start|>", *"assistant"
    ]  # fmt: skip


def test_token_that_template_writes_is_control_token_though_not_special() -> None:
    tokenizer = byte_level()
    tokenizer.add_tokens([AddedToken("<turn>", normalized=False), AddedToken("<tool>", normalized=False)])
    tokenizer.add_tokens([AddedToken("\n\n", normalized=False)])
    made = template(tokenizer, "{% for m in messages %}<turn>{{ m.content }}\n\n{% endfor %}")
    text = "<tool>\n\n<turn>"
    ids = [tokenizer.token_to_id(name) for name in ("<turn>", "<tool>", "\n\n")]
    assert [token for token in made.encode(user(text)) if token in ids] == [*ids, ids[-1]]


def test_role_that_is_control_token_still_selects_its_turn() -> None:
    tokenizer = byte_level()
    tokenizer.add_special_tokens(["user"])
    made = template(tokenizer, "{% for m in messages %}{{ m.content if m.role == 'user' }}{% endfor %}")
    assert made.encode(user("<s>x")) == tokenizer.encode("<").ids + tokenizer.encode("s>x").ids


def test_template_that_refuses_an_empty_message_still_encodes_others() -> None:
    refusing = "{{ raise_exception('empty') if not messages[0].content }}{{ messages[0].content }}"
    assert control_tokens(template(byte_level(), refusing), user("<s>")) == []


SMALL_TEXTS = st.sets(st.text("ab|<", min_size=1, max_size=5), min_size=1, max_size=8)


@given(texts=SMALL_TEXTS, content=st.text("ab|<", max_size=30))
def test_trie_pattern_finds_the_longest_texts(texts: set[str], content: str) -> None:
    longest_first = "|".join(map(re.escape, sorted(texts, key=len, reverse=True)))
    assert re.findall(trie_pattern(texts), content) == re.findall(longest_first, content)


@given(texts=st.sets(st.text("abc", min_size=1, max_size=5), min_size=1, max_size=20))
@example(texts={f"reserved{n}" for n in range(1000)})
def test_alternatives_of_trie_pattern_begin_with_different_characters(texts: set[str]) -> None:
    groups: list[list[str]] = [[]]  # the first letters of the alternatives, for each open group
    for before, symbol in re.findall(r"(\(\?:|\||)(\w|\))", "|" + trie_pattern(texts)):
        if before == "(?:":
            groups.append([])
        if before:
            groups[-1].append(symbol)
        if symbol == ")":
            letters = groups.pop()
            assert len(letters) == len(set(letters))
    [letters] = groups
    assert len(letters) == len(set(letters))


@given(texts=SMALL_TEXTS, text=st.text(f"ab|<{MARK}", max_size=30))
@example(texts={"<|a|>"}, text=f"<{MARK * 100}|a|>")
def test_interrupted_in_finds_each_mark_inside_of_a_token(texts: set[str], text: str) -> None:
    plain = text.replace(MARK, "")
    cuts = {len(text[:place].replace(MARK, "")) for place, letter in enumerate(text) if letter == MARK}
    inside = {
        place
        for token in texts
        for start in range(len(plain))
        if plain.startswith(token, start)
        for place in range(start + 1, start + len(token))
    }
    assert ControlTokens(texts).interrupted_in(text) == bool(cuts & inside)
