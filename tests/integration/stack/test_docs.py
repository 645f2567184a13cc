"""The code blocks of the documentation, executed as they are."""

import json
import runpy
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml

from tests.support.docs import BLOCKS, ROOT, Block, lines
from tests.support.packages import install, project_of
from tests.support.stack import Stack, eventually, free_port
from tests.support.web.uploads import write_clip
from tests.support.web.webstack import CONTEXT_LENGTH, HELLO, TIMEOUT_S, Web, tiny_template
from tests.support.workers.process import scripted_settings, submit_scripted, working
from webapi.keys.keys import Keys
from webapi.keys.signing_keys import SigningKeys
from webapi.webhooks.sender import post
from worker.jobs.cards import ModelCard
from worker.jobs.chat.sampling import SamplingParams
from worker.jobs.errors import DeliveryFailed
from worker.jobs.events import Progress, Succeeded, Token
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.prompt.template import PROMPT_FEATURES
from worker.jobs.settings import Settings, child_env
from worker.jobs.specs import ChatJob, validate
from worker.runs.hooks import GROUP

BROWSER = ROOT / "tests" / "browser"
DONE = Succeeded({}, {})

#: A server of its own, because one test gives the model of this server further features.
SETTINGS: dict[str, object] = {}

#: How a Python block is tested, by a text that only such blocks have. All others are fragments of modules.
#: `test_docs_frame_models.py` has the tests of "frame model" and "export".
PROGRAMS = {
    "client": "from webapi.client import",
    "openai": "from openai import",
    "channel": ".pubsub()",
    "receiver": "import Webhook",
    "hook": "import RunHook",
    "frame model": "from worker.video.model import",
    "export": "torch.export.save(",
}
#: Languages that `tests/unit/repository/test_docs_references.py` checks, and those that nothing can check.
REFERENCES, SHOWN = {"console", "sh", "json"}, {"text"}


@pytest.fixture
def scripted(settings: Settings) -> Settings:
    return scripted_settings(settings)


def check_of(block: Block) -> str:
    """Return the name of the check that covers the block."""
    if block.language == "python":
        found = [name for name, mark in PROGRAMS.items() if mark in block.text]
        assert len(found) <= 1, block
        return found[0] if found else "fragment"
    if block.language in REFERENCES:
        return "references"
    return "shown" if block.language in SHOWN else block.language


def blocks(check: str) -> pytest.MarkDecorator:
    """Parametrize a test with the blocks that it covers."""
    return pytest.mark.parametrize("block", [each for each in BLOCKS if check_of(each) == check], ids=str)


def test_blocks_all_have_a_check() -> None:
    found = Counter(map(check_of, BLOCKS))
    assert found.keys() == {
        *PROGRAMS,
        "caddy",
        "fragment",
        "js",
        "nginx",
        "references",
        "shown",
        "toml",
        "yaml",
    }
    assert found.total() == len(BLOCKS)


@blocks("yaml")
def test_compose_overrides_name_what_compose_file_has(block: Block) -> None:
    """The blocks are files that Compose merges into `compose.yaml`."""
    base, override = yaml.safe_load((ROOT / "compose.yaml").read_text()), yaml.safe_load(block.text)
    assert override.keys() <= base.keys()
    for name, service in override["services"].items():
        assert name in base["services"]
        assert set(service.get("networks", ())) <= base["networks"].keys()


def answer(web: Web, job_id: str) -> None:
    web.worker.claim(job_id)
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    end = Succeeded({"text": "Rayleigh scatters.", "finish_reason": "stop"}, usage)
    web.worker.append(job_id, Token("Rayleigh", 0, 1), Token(" scatters.", 1, 1), end)


def write_clip_of_demo(home: Path) -> None:
    """Write the clip that `make demo` fetches."""
    models = home / ".stoker" / "models"
    models.mkdir(parents=True)
    write_clip(models / "carphone_pristine.mp4")


#: Runs a page's commands as they stand. `curl` also ends the script if the API refuses a request.
SHELL = """
set -euo pipefail
curl() { command curl --fail --silent --show-error "$@"; }
stoker() { "$PYTHON" -m webapi.cli "$@"; }
"""


@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("jq")), reason="curl or jq is not installed")
@pytest.mark.parametrize("page", ["README.md", "docs/http-api.md", "docs/openai-api.md", "docs/security.md"])
def test_curl_blocks_of_page_run_one_after_the_other(web: Web, tmp_path: Path, page: str) -> None:
    write_clip_of_demo(tmp_path)
    write_clip(tmp_path / "clip.mp4")
    features = (*SamplingParams.model_fields, *PROMPT_FEATURES)
    card = ModelCard("tiny", "chat", "chat.tiny", CONTEXT_LENGTH, digest="1", sampling=features)
    web.registry.publish_model(card, tiny_template().to_json())
    shown = [
        line for block in BLOCKS if block.page == page and "curl " in block.text for line in lines(block)
    ]
    script = SHELL + "\n".join(shown).replace("localhost:8000", web.http.base_url.netloc.decode())
    env = child_env(web.settings) | {"PYTHONPATH": str(ROOT), "HOME": str(tmp_path), "PYTHON": sys.executable}
    command = ["bash", "-c", script]
    with subprocess.Popen(command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, text=True) as program:

        def ended() -> bool:
            serve(web, "")
            return program.poll() is not None

        try:
            eventually(ended, "the script's end")
        finally:
            program.kill()
        printed = program.communicate(timeout=TIMEOUT_S)[0]
    assert program.returncode == 0, printed
    if "out.mp4" in script:
        assert (tmp_path / "out.mp4").read_bytes() == b"the result"
        assert "event: succeeded" in printed


def serve(web: Web, owner: str) -> None:
    """Do what a worker does with the caller's queued jobs."""
    for job in web.ledger.page(state="queued", owner=owner):
        if job.kind == "chat":
            answer(web, job.id)
        else:
            web.worker.claim(job.id)
            (web.settings.media_dir / job.id / "result.mp4").write_bytes(b"the result")
            web.worker.append(job.id, Progress(3, 3, "frames"), DONE)


def test_blocks_leave_nothing_out() -> None:
    """A reader can run each block as it stands, without a key or an id to fill in."""
    run = [block for block in BLOCKS if block.language in {"console", "sh", "python", "js"}]
    assert [str(block) for block in run if "…" in block.text] == []


@pytest.mark.parametrize("with_key", [False, True])
@blocks("client")
def test_client_block_runs(web: Web, tmp_path: Path, block: Block, with_key: bool) -> None:
    key = Keys(web.ledger.store).create("docs") if with_key else None
    source = block.text.replace("http://127.0.0.1:8000", str(web.http.base_url))
    write_clip_of_demo(tmp_path)
    env = child_env(web.settings) | {"PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
    if key:
        env["STOKER_API_KEY"] = key.text
    command = [sys.executable, "-c", source]
    with subprocess.Popen(command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, text=True) as program:

        def ended() -> bool:
            serve(web, key.key.id if key else "")
            return program.poll() is not None

        try:
            eventually(ended, "the program's end")
        finally:
            program.kill()
        shown = program.communicate(timeout=TIMEOUT_S)[0]
    assert program.returncode == 0
    if "submit_video" in source:
        assert shown == "Rayleigh scatters.\n3 of 3"
        assert (tmp_path / "out.mp4").read_bytes() == b"the result"
    else:
        assert shown == "Rayleigh scatters. succeeded\n"


@pytest.mark.skipif(not (BROWSER / "node_modules").is_dir(), reason="npm has installed no `eventsource`")
@blocks("js")
def test_page_block_runs(web: Web, block: Block) -> None:
    key = Keys(web.ledger.store).create("docs").text
    headers = {"Authorization": f"Bearer {key}"}
    job_id = str(web.http.post("/v1/jobs/chat", json=HELLO, headers=headers).json()["id"])
    answer(web, job_id)
    names = {"api": str(web.http.base_url).rstrip("/"), "id": job_id, "key": key}
    given = "".join(f"const {name} = {json.dumps(value)};\n" for name, value in names.items())
    script = (
        f'import {{ EventSource }} from "eventsource";\n{given}const show = (text) => console.log(text);\n'
    )
    node = ["node", "--input-type=module", "-e", script + block.text]
    shown = subprocess.check_output(node, cwd=BROWSER, text=True, timeout=TIMEOUT_S)
    assert shown == "Rayleigh\n scatters.\n"


@pytest.mark.slow
@pytest.mark.timeout(300)
@blocks("openai")
def test_openai_block_streams_the_answer(stack: Stack, block: Block) -> None:
    source = block.text.replace("http://127.0.0.1:8000", stack.settings.url)
    assert "Tokyo" in subprocess.check_output([sys.executable, "-c", source], text=True, timeout=60)


@pytest.mark.slow
@pytest.mark.timeout(300)
@blocks("channel")
def test_channel_block_prints_every_event_live_and_afterwards(stack: Stack, block: Block) -> None:
    source = block.text.replace("stoker:job:", f"{stack.settings.prefix}:job:")
    job = stack.chat("What is the capital of Japan?", temperature=0)
    command = [sys.executable, "-c", source, stack.settings.broker_url, job["id"]]
    live = subprocess.check_output(command, text=True, timeout=60)
    _, events = stack.finished(job)
    expected = "".join(f"{e['n']} {e['type']} {e.get('text', '')}\n" for e in events)
    assert live == expected
    assert subprocess.check_output(command, text=True, timeout=60) == expected


@blocks("receiver")
def test_receiver_block_accepts_only_signed_webhooks(ledger: Ledger, block: Block) -> None:
    ledger.store.settings = ledger.store.settings.replace(webhook_private=True)
    port = free_port()
    body = {"messages": [{"role": "user", "content": "Hi"}], "webhook_url": f"http://127.0.0.1:{port}/"}
    for job_id, owner in (("good", ""), ("bad", "another")):
        ledger.submit(job_id, "chat.tiny", validate(ChatJob, body), owner)
        ledger.cancel(job_id)
    command = [sys.executable, "-u", "-c", block.text, SigningKeys(ledger.store).webhook_key(""), str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as receiver:
        try:
            assert eventually(lambda: _status(ledger, "good"), "the receiver") == 204
            assert _status(ledger, "bad") == 400
            assert receiver.stdout is not None
            assert receiver.stdout.readline() == "msg_good job.canceled good\n"
        finally:
            receiver.kill()


def _status(ledger: Ledger, job_id: str) -> int | None:
    try:
        return post(ledger.store, ledger.get(job_id))
    except DeliveryFailed:  # it does not listen yet
        return None


@blocks("hook")
def test_hook_block_runs_in_worker(
    scripted: Settings, brokered: Ledger, tmp_path: Path, block: Block
) -> None:
    site = tmp_path / "site"
    install(site, project_of(GROUP), run_times=block.text)
    broken = {"name": "broken", "entry-points": {GROUP: {"broken": "broken:Broken"}}}
    install(site, broken, broken=BROKEN_HOOK)
    with working(scripted, PYTHONPATH=f"{site}:{ROOT}"):
        submit_scripted(brokered, "a", content="long", max_tokens=2)
        eventually(lambda: brokered.get("a").terminal, "the end")
        log = scripted.home_dir / "log"
        eventually(lambda: "attempt 1 at a: succeeded in " in log.read_text(), "the hook's line")
    assert brokered.get("a").state == "succeeded"
    for name in ("before_run", "after_event", "after_run"):
        assert f"the run hook Broken failed in {name}" in log.read_text()


#: A module whose hook raises in each of its methods.
BROKEN_HOOK = """
class Broken:
    def __getattr__(self, name):
        raise LookupError("as the test wants it")
"""


@blocks("fragment")
def test_fragment_block_defines_what_it_says(tmp_path: Path, block: Block) -> None:
    file = tmp_path / "fragment.py"
    file.write_text(block.text)
    assert runpy.run_path(str(file))
