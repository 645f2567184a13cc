"""The sampling parameters: their descriptions, what an engine lacks, and what an older worker supports."""

import pytest

from tests.support.ledger import QUEUE
from worker.jobs.cards import ModelCard
from worker.jobs.chat.sampling import COMMON_PARAMETERS, SamplingParams, unsupported
from worker.jobs.errors import InvalidInput
from worker.jobs.specs import ChatJob, validate
from worker.jobs.stored import from_json, to_json


def test_sampling_params_are_described() -> None:
    properties = SamplingParams.model_json_schema()["properties"]
    assert [name for name, schema in properties.items() if "description" not in schema] == []
    assert properties.items() <= ChatJob.model_json_schema()["properties"].items()


def test_sampling_params_take_null_for_no_value() -> None:
    nulls = dict.fromkeys(SamplingParams.model_fields)
    assert SamplingParams.model_validate(nulls) == SamplingParams()
    schemas = SamplingParams.model_json_schema()["properties"].values()
    assert all({"type": "null"} in schema["anyOf"] for schema in schemas)


def test_neutral_values_ask_for_nothing() -> None:
    neutral = {
        "presence_penalty": 0, "frequency_penalty": 0, "repetition_penalty": 1, "logit_bias": {}, "top_k": -1,
        "min_p": 0, "bad_words": [], "stop_token_ids": [], "logprobs": False, "top_logprobs": 0,
    }  # fmt: skip
    assert unsupported(SamplingParams.model_validate(neutral), COMMON_PARAMETERS) == []


@pytest.mark.parametrize(
    ("given", "names"),
    [({}, []), ({"top_p": 1.0, "seed": 4}, []), ({"top_p": 0.5, "stop": "a", "seed": 4}, ["top_p", "stop"])],
)
def test_unsupported_names_given_parameters_that_an_engine_lacks(
    given: dict[str, object], names: list[str]
) -> None:
    params = SamplingParams.model_validate(given)
    assert unsupported(params, COMMON_PARAMETERS - {"top_p", "stop"}) == names
    assert unsupported(params, COMMON_PARAMETERS) == []


def test_model_card_without_parameters_supports_the_common_ones() -> None:
    older = ModelCard("tiny", "chat", QUEUE, 64, digest="1")
    assert older.supports == COMMON_PARAMETERS
    newer = ModelCard("tiny", "chat", QUEUE, 64, digest="1", sampling=("seed", "unheard_of"))
    stored = from_json(ModelCard, to_json(newer))
    assert (stored, len({stored, newer, older})) == (newer, 2)
    assert set(stored.supports) == {"seed", "unheard_of"}


@pytest.mark.parametrize("name", ["logit_bias", "structured_outputs", "response_format"])
def test_error_of_a_value_that_is_no_object_names_no_class(name: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        validate(SamplingParams, {name: [1]})
    assert (caught.value.field, str(caught.value)) == (name, "must be an object")
