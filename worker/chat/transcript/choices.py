"""Makes the choices of a chat, which continue after what earlier attempts have logged."""

from collections.abc import Sequence

from worker.chat.detokenizer import Detokenizer
from worker.chat.parsing.model_parsers import ModelParsers
from worker.chat.transcript.answer import Answer
from worker.chat.transcript.choice import Choice
from worker.jobs.events import ANSWER, LoggedEvent
from worker.jobs.specs import ChatJob
from worker.runs.run import Run

__all__ = ["resume_choices"]


def resume_choices(
    run: Run, spec: ChatJob, history: Sequence[LoggedEvent], parsers: ModelParsers, prompt: Sequence[int]
) -> dict[str, Choice]:
    """Return the choices of a chat by the ids of their requests. `history` is the log so far."""
    answers = [event for event in history if event.type in ANSWER]
    choices = {}
    for number in range(spec.n):
        index = None if spec.n == 1 else number
        logged = [event for event in answers if event.data.get("choice") == index]
        answer = Answer(run.record.id, index, not spec.include_reasoning)
        choice = Choice(answer, index, logged, parsers.make(spec, prompt), spec.return_token_ids)
        if logged:
            choice.replay(Detokenizer(parsers.tokenizer, spec, parsers.marker_tokens(spec)))
        choices[run.id if index is None else f"{run.id}.{index}"] = choice
    return choices
