"""transformers' cache, changed so that only requests with the same salt share blocks."""

from collections.abc import Callable, Mapping
from copy import copy
from hashlib import blake2b

from transformers.generation.continuous_batching.cache import PagedAttentionCache
from transformers.generation.continuous_batching.requests import RequestState

__all__ = ["SaltedCache"]


class SaltedCache(PagedAttentionCache):
    """A cache that finds a block only for requests with the salt of the request that filled it.

    transformers finds a block by a hash of its token ids and of all token ids before it. The salt changes the
    first ids that are hashed, and so the hash of every block. It changes nothing that the model reads.

    The salt of a request is the part of its id behind the first colon (`AdmittedRequest.key`), because
    transformers passes nothing else of a request to its search.
    """

    #: Called with the id of each request and the number of its tokens that were in the cache.
    on_search: Callable[[str, int], None]
    #: The tokens that were searched for, and those of them that were in the cache. Attributes of the class,
    #: because its instances are made as ones of its base.
    queries = hits = 0

    @property
    def usage(self) -> float:
        """The share of the cache that running requests hold, from 0 to 1. Another thread may ask for it."""
        held = 0
        for allocator in self.cache_allocators.values():
            blocks = {block for table in list(allocator.block_table.values()) for block in table}
            held += len(blocks) * allocator.bytes_per_block
        return held / (self.num_sectors * self.bytes_per_sector)

    def search_prefix_match(self, request_id: str, prompt_ids: list[int]) -> int:
        """Share the blocks that are in the cache already, and return the number of their tokens."""
        found = super().search_prefix_match(request_id, _salted(request_id, prompt_ids))
        self.queries += len(prompt_ids)
        self.hits += found
        self.on_search(request_id, found)
        return found

    def mark_complete_blocks(self, state: RequestState, complete_blocks: Mapping[str, int]) -> None:
        """Store the hashes of the blocks that a step has completed. `search_prefix_match` looks for them."""
        hashed = copy(state)
        hashed.initial_tokens = _salted(state.request_id, state.initial_tokens + state.generated_tokens)
        hashed.generated_tokens = []
        super().mark_complete_blocks(hashed, dict(complete_blocks))


def _salted(request_id: str, token_ids: list[int]) -> list[int]:
    """Return the ids with up to 16 of them changed by the salt; all fit into the first block.

    No ids of another salt, or of none, give the same result: the changed ids use 32 bits, of which token ids
    use about 18.
    """
    salt = request_id.partition(":")[2]
    if not salt:
        return token_ids
    words = memoryview(blake2b(salt.encode()).digest()).cast("i")
    return [token ^ word for token, word in zip(token_ids, words, strict=False)] + token_ids[len(words) :]
