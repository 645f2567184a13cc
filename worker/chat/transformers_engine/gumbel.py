"""Gumbel noise that depends only on a request's seed, the position and the token."""

from hashlib import blake2b

import torch

__all__ = ["GREEDY", "gumbel_noise", "noise_key"]

#: The noise key of a greedy row: the engine takes the argmax of its logits without noise.
GREEDY = 0


def gumbel_noise(keys: torch.Tensor, vocabulary: int) -> torch.Tensor:
    """Return standard Gumbel noise, float32, shape (rows, vocabulary), for int32 keys of shape (rows, 1).

    The noise is -log(E) with E = -log(1 - U). Draws that win have a U near 0, where float32 is finest. U has
    31 bits of a counter-based hash and stays below 1 - 2^-24, so the noise is finite. The function uses only
    tensor operations without state, so it runs on any device and inside CUDA graphs.
    """
    tokens = torch.arange(vocabulary, dtype=torch.int32, device=keys.device)
    bits = _lowbias32(_lowbias32(tokens + 1) ^ keys)
    uniform = ((_shift(bits, 1)).float() + 0.5) * 2.0**-31
    return -torch.log(-torch.log1p(-uniform.clamp(max=1 - 2.0**-24)))


def noise_key(seed: int | None, position: int) -> int:
    """Return 32 bits of BLAKE2b over seed and position, never `GREEDY`; `GREEDY` if there is no seed."""
    if seed is None:
        return GREEDY
    digest = blake2b(f"{seed} {position}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little", signed=True) or 1


def _lowbias32(x: torch.Tensor) -> torch.Tensor:
    """Hash int32 values with Chris Wellons' lowbias32 (github.com/skeeto/hash-prospector, 2018).

    Products of int32 tensors wrap, as the hash needs.
    """
    x = (x ^ _shift(x, 16)) * 0x7FEB352D
    x = (x ^ _shift(x, 15)) * (0x846CA68B - 2**32)
    return x ^ _shift(x, 16)


def _shift(x: torch.Tensor, bits: int) -> torch.Tensor:
    """Shift int32 values right and fill with zeros (`>>` would copy the sign)."""
    return torch.bitwise_and(x >> bits, 2 ** (32 - bits) - 1)
