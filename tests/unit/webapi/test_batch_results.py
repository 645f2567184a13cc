"""The results of a batch's requests."""

import json
from collections.abc import Iterator

import pytest
from redis.exceptions import RedisError

from webapi.batches.lines import Request
from webapi.batches.results import Result, guarded
from worker.jobs.errors import InvalidInput, MediaUnavailable, ModelNotFound


def failing(error: Exception) -> Iterator[Result]:
    yield from ()
    raise error


def status_after(error: Exception) -> int:
    (result,) = guarded(failing(error), 0, "job", Request("a", {}))
    assert not result.completed
    line = json.loads(result.text[1:])
    assert line["custom_id"] == "a"
    status: int = line["response"]["status_code"]
    return status


def test_error_of_a_request_becomes_its_result() -> None:
    assert status_after(InvalidInput("model", "must be a text")) == 400
    assert status_after(ModelNotFound("model", "it does not exist")) == 404
    assert status_after(KeyError("a fault of this program")) == 500


@pytest.mark.parametrize("error", [RedisError("gone"), MediaUnavailable("gone"), OSError("full")])
def test_error_of_a_store_is_raised(error: Exception) -> None:
    with pytest.raises(type(error)):
        status_after(error)
