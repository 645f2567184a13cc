"""Counts the prompt tokens that an engine takes from its cache of prefixes."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.chat.engines import StartedEngine
from worker.chat.vllm_engine.engine import VllmEngine

if TYPE_CHECKING:
    from vllm.v1.engine import EngineCoreOutput

__all__ = ["counted_prefix_hits"]


@contextmanager
def counted_prefix_hits(started: StartedEngine) -> Iterator[list[int]]:
    """Yield a list that grows with each request: by the number of its tokens that the cache had already."""
    hits = list[int]()
    engine: Any = started.engine
    with pytest.MonkeyPatch.context() as patch:
        if isinstance(engine, VllmEngine):
            processor = engine._llm.output_processor
            process = processor.process_outputs

            def process_outputs(outputs: "list[EngineCoreOutput]", *args: Any, **kwargs: Any) -> Any:
                hits.extend(one.prefill_stats.num_cached_tokens for one in outputs if one.prefill_stats)
                return process(outputs, *args, **kwargs)

            patch.setattr(processor, "process_outputs", process_outputs)
        else:
            cache = engine._manager.batch_processor.cache
            search = cache.search_prefix_match

            def search_prefix_match(request_id: str, prompt_ids: list[int]) -> int:
                hits.append(search(request_id, prompt_ids))
                return hits[-1]

            patch.setattr(cache, "search_prefix_match", search_prefix_match)
        yield hits
