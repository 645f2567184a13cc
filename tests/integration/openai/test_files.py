"""`/v1/files` with OpenAI's client: upload, list, content, deletion, caps and expiry."""

from collections.abc import Iterator

import openai
import pytest
from openai import OpenAI

from tests.support.stack import eventually
from tests.support.web.openai_clients import client_of
from tests.support.web.webstack import Web
from webapi.files.file_store import FileStore
from worker.jobs.media.open import open_media_store

SETTINGS = {"max_files_per_key": 3, "max_files_bytes_per_key": 1000, "max_file_bytes": 2000}


@pytest.fixture
def client(web: Web) -> Iterator[OpenAI]:
    with client_of(web) as client:
        yield client


def upload(client: OpenAI, content: bytes = b"{}\n", **options: object) -> openai.types.FileObject:
    return client.files.create(file=("a.jsonl", content), purpose="batch", **options)  # type: ignore[arg-type]


def test_files_are_listed_read_and_deleted(client: OpenAI, web: Web) -> None:
    first, second = upload(client, b"one\ntwo"), upload(client)
    assert (first.filename, first.bytes, first.purpose, first.status) == ("a.jsonl", 7, "batch", "processed")
    assert first.expires_at == first.created_at + web.settings.file_retention_s
    assert client.files.retrieve(first.id) == first
    assert client.files.content(first.id).content == b"one\ntwo"
    part = web.http.get(f"/v1/files/{first.id}/content", headers={"Range": "bytes=4-"})
    assert (part.status_code, part.content) == (206, b"two")
    assert [each.id for each in client.files.list()] == [second.id, first.id]
    assert [each.id for each in client.files.list(order="asc", limit=1)] == [first.id, second.id]
    assert list(client.files.list(purpose="batch_output")) == []
    assert client.files.delete(first.id).deleted
    assert [each.id for each in client.files.list()] == [second.id]
    assert [path.name for path in web.settings.media_dir.joinpath("files").iterdir()] == [second.id]
    with pytest.raises(openai.NotFoundError):
        client.files.content(first.id)


def test_files_expire_when_the_client_says(client: OpenAI, web: Web) -> None:
    file = upload(client, expires_after={"anchor": "created_at", "seconds": 3600})
    assert file.expires_at == file.created_at + 3600
    redis, key = web.ledger.store.client, web.ledger.store.key
    redis.zadd(key("files", "expiry"), {file.id: 1, "../../home": 1})
    files = FileStore(web.ledger.store, open_media_store(web.settings))
    files.delete_expired()  # as the API does each minute
    assert not list(client.files.list())
    assert not list(web.settings.media_dir.joinpath("files").iterdir())


def test_files_beyond_the_caps_are_refused_and_leave_nothing(client: OpenAI, web: Web) -> None:
    upload(client, b"a" * 990)
    with pytest.raises(openai.RateLimitError) as refused:
        upload(client, b"b" * 20)
    assert refused.value.code == "storage_full"
    upload(client, b"c")
    upload(client, b"d")
    with pytest.raises(openai.RateLimitError):
        upload(client, b"e")
    assert len(list(client.files.list())) == 3
    assert len(list(web.settings.media_dir.joinpath("files").iterdir())) == 3
    with pytest.raises(openai.APIStatusError) as large:
        upload(client, b"f" * 200_000)
    assert large.value.status_code == 413


@pytest.mark.parametrize(
    ("data", "files", "param"),
    [
        ({"purpose": "fine-tune"}, {"file": b"a"}, "purpose"),
        ({}, {"file": b"a"}, "purpose"),
        ({"purpose": "batch"}, {"other": b"a"}, "other"),
        ({"purpose": "batch", "file": "text"}, {}, "file"),
        ({"purpose": "batch", "expires_after[seconds]": "5"}, {"file": b"a"}, "expires_after[seconds]"),
    ],
)
def test_wrong_uploads_are_refused(
    web: Web, data: dict[str, str], files: dict[str, bytes], param: str
) -> None:
    parts = {name: (None, text) for name, text in data.items()}
    answer = web.http.post("/v1/files", files={**parts, **files})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.text


def test_input_of_an_unfinished_batch_stays(client: OpenAI) -> None:
    line = b'{"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {"messages": ' \
           b'[{"role": "user", "content": "Hi"}]}}\n'  # fmt: skip
    file = upload(client, line)
    batch = client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
    )
    with pytest.raises(openai.ConflictError):
        client.files.delete(file.id)
    client.batches.cancel(batch.id)
    eventually(lambda: _deleted(client, file.id), "the end of the batch")


def _deleted(client: OpenAI, file_id: str) -> bool:
    try:
        return client.files.delete(file_id).deleted
    except openai.ConflictError:
        return False
