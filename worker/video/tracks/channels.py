"""The layouts of sound's channels, without those that PyAV cannot handle."""

from __future__ import annotations

from av.audio.codeccontext import AudioCodecContext

__all__ = ["simplify_layout"]

#: libav has a usual layout for each number of channels up to this one.
MAX_USUAL = 8


def simplify_layout(context: AudioCodecContext) -> None:
    """Replace a layout that lists the channels one by one, as cameras and editors write it into MOV files.

    It becomes libav's usual one for the number of channels, so the sides and the back of 7.1 may change
    places. Call this before the context is opened. PyAV 18 frees such a list twice, at the latest with the
    first decoded frame, and that ends the process.
    """
    layout = context.layout  # from the last line on, only this object knows the list, and frees it once
    name, channels = layout.name, layout.nb_channels
    if "+" in name or "@" in name:  # libav's notation of a list
        name = f"{channels}c" if channels <= MAX_USUAL else f"{channels} channels"
    if channels:
        context.layout = name
