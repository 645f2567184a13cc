from worker.chat.warmup import LONG_PROMPT, SHORT_PROMPT, warmup_batches


def test_a_prompt_of_each_size_that_has_a_graph_is_rehearsed_alone() -> None:
    alone = [len(crowd[0].prompt) for crowd in warmup_batches(8, 2048, (1, 2, 4, 8, 256)) if len(crowd) == 1]
    assert alone[:6] == [LONG_PROMPT, 2, 2, 4, 8, 256]
    assert set(alone[6:]) == {SHORT_PROMPT}


def test_a_rehearsed_chat_fits_into_the_context() -> None:
    chats = [chat for crowd in warmup_batches(3, 64, (512,)) for chat in crowd]
    assert all(len(chat.prompt) + chat.max_tokens <= 64 for chat in chats)


def test_no_two_rehearsed_prompts_begin_alike() -> None:
    starts = [tuple(chat.prompt[:2]) for crowd in warmup_batches(64, 2048, (8, 16)) for chat in crowd]
    assert len(set(starts)) == len(starts)
