"""Tests of the scripted engine: its output must be the outcome that the campaign expects."""

from tests.support.chat.recorder import Recorder
from tests.support.event_checks import Expected
from tests.support.scripted import ScriptedEngine, digits_chat, expected
from worker.chat.engine import ChatRequest
from worker.jobs.specs import ChatJob, validate


def request(job: ChatJob, engine: ScriptedEngine) -> ChatRequest:
    content = str(job.messages[0].content)
    prompt = engine.prompt_template.encode([{"role": "user", "content": content}])
    return ChatRequest(content, prompt, job)


def test_scripted_engine_output_is_as_expected() -> None:
    jobs = [validate(ChatJob, digits_chat(n)) for n in range(1, 49)]
    engine, recorder = ScriptedEngine(slots=len(jobs)), Recorder()
    engine.start(recorder.on_step, recorder.on_broken)
    try:
        recorder.run_requests(engine, *(request(job, engine) for job in jobs))
    finally:
        engine.stop()
    reasons = set()
    for job in jobs:
        name = str(job.messages[0].content)
        [end], tokens = recorder.ends(name), len(recorder.ids(name))
        reasons.add((end.finish_reason, bool(job.stop)))
        assert Expected(recorder.text(name), tokens, end.finish_reason or "") == expected(job)
    assert reasons == {("stop", True), ("stop", False), ("length", True), ("length", False)}
