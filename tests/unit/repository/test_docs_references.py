"""What the documentation refers to exists: commands, flags, routes, links, fields, settings."""

import argparse
import importlib.util
import json
import re
import subprocess
import sys
import tomllib
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import pytest
import yaml
from pydantic import BaseModel

from tests.support.docs import BLOCKS, PAGES, ROOT, TEXTS, Block, commands, prose
from webapi.app import create_app
from webapi.cli.main import main
from webapi.documents.chat import ChatResultDocument
from webapi.documents.events import EventDocument
from webapi.documents.jobs import JobDocument
from webapi.documents.memory import BatchMemoryDocument, MemoryDocument
from webapi.http.problems import STATUS, Problem
from webapi.openai.errors import ErrorDocument
from webapi.openapi.document import build
from webapi.openapi.webhooks import Notice
from worker.assets.command import main as models
from worker.jobs.cards import WorkerCard
from worker.jobs.errors import InvalidInput, JobFailed
from worker.jobs.metrics.catalog import METRICS
from worker.jobs.records import QueueInfo
from worker.jobs.settings import PREFIX, Settings, child_env
from worker.jobs.specs import ChatJob, VideoJob, validate
from worker.video.check.command import main as frame_model_check
from worker.video.models.find import MODELS

Json = dict[str, Any]
Words = Sequence[str]

COMPOSE: Json = yaml.safe_load((ROOT / "compose.yaml").read_text())
CONTAINERS = (ROOT / "compose.yaml").read_text() + (ROOT / "Dockerfile").read_text()
#: Every variable that a page may name.
VARIABLES = {PREFIX + name.upper() for name in Settings.model_fields}
VARIABLES |= {
    f"{PREFIX}{name.upper()}_FILE" for name, field in Settings.model_fields.items() if not field.repr
}
VARIABLES |= set(re.findall(r"\bSTOKER_[A-Z_]+", CONTAINERS))
#: Programs that are not ours, whose arguments nothing here can judge.
FOREIGN = {
    ".",
    "cat",
    "chgrp",
    "chmod",
    "cut",
    "echo",
    "git",
    "jq",
    "mkdir",
    "mkdocs",
    "mypy",
    "openssl",
    "pre-commit",
    "pytest",
    "redis-cli",
    "ruff",
    "sed",
    "sh",
    "systemctl",
    "tee",
}


def check(words: Words) -> None:
    """Raise an error if the command does not exist as it is shown."""
    while words and re.match(r"[A-Z_]+=", words[0]):
        check_variable(words[0])
        words = words[1:]
    if not words:
        return
    name = words[0].rpartition("/")[2]
    if name not in FOREIGN:
        CHECKS[name](words[1:])


def check_variable(assignment: str) -> None:
    name = assignment.partition("=")[0]
    assert name in VARIABLES or not name.startswith(PREFIX), name


def check_export(words: Words) -> None:
    for word in words:
        check_variable(word)


def check_stoker(words: Words) -> None:
    command: click.Command = main
    context = click.Context(command, info_name="stoker")
    rest = list(words)
    while isinstance(command, click.Group):
        name, found, rest = command.resolve_command(context, rest)
        assert found is not None
        command, context = found, click.Context(found, parent=context, info_name=name)
    if command is main.commands["models"]:  # hands its arguments on
        command = models
    if command is main.commands["check"]:
        command = frame_model_check
    for word in rest:
        if word.endswith(".mp4"):  # must exist
            Path(word).parent.mkdir(parents=True, exist_ok=True)
            Path(word).touch()
    command.make_context(context.info_name, rest, parent=context.parent)


def check_make(words: Words) -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(words) <= targets, words


def check_python(words: Words) -> None:
    if words[0] == "-m":
        assert importlib.util.find_spec(words[1]), words[1]
    else:
        assert (ROOT / words[0]).is_file(), words[0]


def check_celery(words: Words) -> None:
    module = words[words.index("-A") + 1]
    assert hasattr(importlib.import_module(module), "app"), module


def check_pip(words: Words) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for names in re.findall(r"\.\[([\w,]+)\]", " ".join(words)):
        assert set(names.split(",")) <= extras.keys(), words


def check_files(words: Words) -> None:
    """Judge the files of ours that the command names."""
    for word in words:
        assert not word.startswith("deploy/") or (ROOT / word).exists(), word


def check_kubectl(words: Words) -> None:
    check_files(words)
    for word in words:
        kind, _, name = word.partition("/")
        if kind == "deployment":
            assert (ROOT / "deploy/kubernetes/base" / f"{name}.yaml").is_file(), word
    if "--" in words:
        check(words[words.index("--") + 1 :])


def check_docker(words: Words) -> None:
    if words[0] == "push":
        assert words[1].partition(":")[2] in re.findall(r" AS (\S+)\n", CONTAINERS), words
        return None
    services = COMPOSE["services"]
    profiles = {name for service in services.values() for name in service.get("profiles", [])}
    assert words[0] == "compose", words
    command, rest = "", list(words[1:])
    while rest:
        word = rest.pop(0)
        if word == "--profile":
            assert rest.pop(0) in profiles, words
        elif word == "--scale":
            assert rest.pop(0).partition("=")[0] in services, words
        elif word == "-e":
            check_variable(rest.pop(0))
        elif word.startswith("-"):
            assert word in ("-d", "-T", "--build", "--no-deps"), words
        elif not command:
            command = word
        else:
            assert word in services, words
            if command == "exec":
                return check(rest)
    return None


@pytest.fixture(scope="module")
def document() -> Json:
    return build(create_app(Settings(redis_url="redis://127.0.0.1:1/0")))


class Curl(argparse.ArgumentParser):
    """Enough of curl's flags to see which request it makes."""

    def __init__(self) -> None:
        super().__init__(exit_on_error=False)
        for flag in "siN":
            self.add_argument(f"-{flag}", action="store_true")
        for flag in "HFd":
            self.add_argument(f"-{flag}", action="append", default=[])
        self.add_argument("-X")
        self.add_argument("-o")
        self.add_argument("url")


def check_curl(words: Words, document: Json) -> None:
    asked = Curl().parse_args(words)
    path = urlsplit(asked.url if "://" in asked.url else f"http://{asked.url}").path
    if path in ("/openapi.json", "/docs"):
        return
    pattern = re.sub(r"\$\w+", "{[a-z_]+}", re.escape(path).replace(r"\$", "$"))
    [route] = [known for known in document["paths"] if re.fullmatch(pattern, known)]
    operation = document["paths"][route][(asked.X or ("POST" if asked.F or asked.d else "GET")).lower()]
    if asked.F:
        form = operation["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]
        fields = dict(field.split("=", 1) for field in asked.F)
        if fields.get("model") in {None, *MODELS}:  # any other model has options of its own
            assert fields.keys() <= form.keys(), words
    for body in asked.d if path == "/v1/jobs/chat" else ():
        validate(ChatJob, json.loads(body))


#: What a check raises.
REFUSALS = (AssertionError, ImportError, LookupError, ValueError, InvalidInput, click.UsageError)
CHECKS: dict[str, Callable[[Words], None]] = {
    "celery": check_celery,
    "cp": check_files,
    "docker": check_docker,
    "export": check_export,
    "kubectl": check_kubectl,
    "make": check_make,
    "pip": check_pip,
    "promtool": check_files,
    "python": check_python,
    "stoker": check_stoker,
}


@pytest.fixture
def curl(document: Json, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let `check` judge curl by the document, in an empty folder."""
    monkeypatch.setitem(CHECKS, "curl", lambda words: check_curl(words, document))
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("curl")
@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language in ("console", "sh")], ids=str)
def test_command_blocks_show_what_exists(block: Block) -> None:
    shown = list(commands(block))
    assert shown
    for words in shown:
        check(words)


@pytest.mark.usefixtures("curl")
@pytest.mark.parametrize(
    "line",
    [
        "stoker fly",
        "stoker worker chat --wings 2",
        "stoker worker chat --slots many",
        "stoker models --all",
        "stoker keys create",
        "make coffee",
        "make test coffee",
        "python -m bench.coffee",
        "celery -A worker.coffee inspect ping",
        "pip install '.[coffee]'",
        "export STOKER_COFFEE=1",
        "STOKER_COFFEE=1 stoker up",
        "docker compose up -d coffee",
        "docker compose up -d --scale coffee=2",
        "docker compose exec web stoker fly",
        "docker push registry.example/stoker:coffee",
        "kubectl apply -k deploy/coffee",
        "kubectl rollout status deployment/coffee",
        "kubectl exec deployment/web -- stoker fly",
        "promtool check rules deploy/prometheus/coffee.yaml",
        "curl localhost:8000/v1/coffee",
        "curl -X DELETE localhost:8000/v1/jobs",
        "curl localhost:8000/v1/jobs/video -F film=@clip.mp4",
        'curl localhost:8000/v1/jobs/chat -d \'{"question": "Hello!"}\'',
        "coffee --black",
    ],
)
def test_check_finds_what_does_not_exist(line: str) -> None:
    [words] = commands(Block("", 0, "console", f"$ {line}\n"))
    with pytest.raises(REFUSALS):
        check(words)


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: page.name)
def test_inline_commands_exist(page: Path) -> None:
    text = page.read_text()
    assert set(re.findall(r"`stoker ([a-z]+)", text)) <= main.commands.keys()
    check_make(re.findall(r"`make ([a-z-]+)", text))


def anchors(page: Path) -> set[str]:
    """Return the anchors of the headings; for a page of docs/, those that GitHub and MkDocs both make."""
    unfenced = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", unfenced, re.MULTILINE)
    plain = [re.sub(r"[`*]|\[|\]\([^)]*\)", "", heading).strip() for heading in headings]
    github = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in plain}
    return github & set(map(_mkdocs_anchor, plain)) if page.parent.name == "docs" else github


def _mkdocs_anchor(heading: str) -> str:
    ascii_only = unicodedata.normalize("NFKD", heading).encode("ascii", "ignore").decode()
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", ascii_only).strip().lower())


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        url = urlsplit(link)
        if url.scheme:
            continue
        target = (page.parent / url.path).resolve() if url.path else page
        assert target.exists(), link
        assert page.parent == ROOT or target.is_relative_to(ROOT / "docs"), f"MkDocs does not have {link}"
        assert not url.fragment or url.fragment in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_name_only_files_that_exist(page: Path) -> None:
    named = set(re.findall(r"`((?:worker|webapi|tests|docs|bench|deploy)/[\w/.-]*)`", page.read_text()))
    assert {path for path in named if not (ROOT / path).exists()} == set()


#: The model of a JSON block, by the fields that only its documents have.
DOCUMENTS: dict[tuple[str, ...], type[BaseModel]] = {
    ("n",): EventDocument,
    ("links",): JobDocument,
    ("batches",): MemoryDocument,
    ("message", "text"): ChatResultDocument,
    ("title", "status"): Problem,
    ("error",): ErrorDocument,
    ("timestamp", "data"): Notice,
}


def documents(block: Block) -> list[Json]:
    """Return the block's one document, or one a line."""
    lines = block.text.splitlines()
    return [json.loads(line) for line in lines] if lines[0].endswith("}") else [json.loads(block.text)]


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "json"], ids=str)
def test_json_blocks_fit_their_models(block: Block) -> None:
    for shown in documents(block):
        model = next(model for names, model in DOCUMENTS.items() if shown.keys() >= set(names))
        assert model.model_validate(shown).model_dump(exclude_unset=True) == shown


def test_event_examples_cover_every_type() -> None:
    page = [block for block in BLOCKS if block.page == "docs/http-api.md" and block.language == "json"]
    shown = {each["type"] for block in page for each in documents(block) if "n" in each}
    schema = EventDocument.model_json_schema()
    assert shown == schema["discriminator"]["mapping"].keys()


def test_http_page_names_every_field_and_code() -> None:
    page = (ROOT / "docs" / "http-api.md").read_text()
    named = set(re.findall(r"`([\w./-]+)`", page))
    internal = {"options", "requested"}
    models = (JobDocument, BatchMemoryDocument, ChatJob, VideoJob)
    assert {name for model in models for name in model.model_fields} - internal <= named
    assert {name for card in (WorkerCard, QueueInfo) for name in card.__dataclass_fields__} <= named
    codes = {kind.code for kind in (*STATUS, *JobFailed.__subclasses__())} - {"model_not_found"}
    assert codes | {"context_length_exceeded", "idempotency_key_reused", "internal_error"} <= named


def test_metrics_page_names_every_metric_with_its_labels() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text()
    rows = re.findall(r"^\| `((?:vllm:|stoker_)\w+)` \| ([^|]*) \|", page, re.MULTILINE)
    named = {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in rows}
    assert named == {name: {*metric.labels} - {"engine"} for name, metric in METRICS.items()}


def test_http_page_names_every_native_route(document: Json) -> None:
    page = (ROOT / "docs" / "http-api.md").read_text()
    native = {re.sub(r"{\w+}", "{id}", path) for path in document["paths"]}
    foreign = (
        "/detokenize",
        "/tokenize",
        "/v1/batches",
        "/v1/chat",
        "/v1/completions",
        "/v1/files",
        "/v1/models",
        "/v1/responses",
        "/v1/stream",
        "/v1/videos",
    )
    native = {path for path in native if not path.startswith(foreign)}
    assert {path for path in native if f"{path}`" not in page} == set()


def test_settings_page_is_the_generated_one() -> None:
    env = child_env(Settings.from_env()) | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, str(ROOT / "docs" / "generate_settings.py")]
    assert (ROOT / "docs" / "settings.md").read_bytes() == subprocess.check_output(command, env=env)


def test_settings_page_has_every_setting_with_its_default() -> None:
    page = (ROOT / "docs" / "settings.md").read_text()
    rows = re.findall(r"^\| `(STOKER_\w+)` \| (.*?) \| (.*) \|$", page, re.MULTILINE)
    assert [name for name, _, _ in rows] == [PREFIX + name.upper() for name in Settings.model_fields]
    defaults = Settings().to_env()
    for name, shown, meaning in rows:
        assert meaning.endswith("."), name
        default = defaults.get(name, "")
        if re.fullmatch(r"[0-9]+(\.[0-9]+)?", default):
            assert float(shown.strip("`")) == float(default), name
        else:
            assert shown == (f"`{default}`" if default else "unset"), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_name_only_variables_that_exist(page: Path) -> None:
    assert set(re.findall(r"\bSTOKER_[A-Z_]*[A-Z]", page.read_text())) <= VARIABLES
