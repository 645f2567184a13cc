"""Opening the media store that the settings name."""

from asyncio import AbstractEventLoop

from worker.jobs.media.files import Media
from worker.jobs.media.local import Folders
from worker.jobs.settings import Settings

__all__ = ["media_of"]


def media_of(settings: Settings, loop: AbstractEventLoop | None = None) -> Media:
    """The media store that the settings name; nothing connects yet. Raises `BadSettings`.

    `loop` is for stores whose library is asynchronous; by default that library has one of its own.
    """
    if settings.media_url is None:
        return Folders(settings.media_dir)
    from worker.jobs.media.object_store import Store
    from worker.jobs.media.remote import RemoteMedia  # fsspec is needed for no other

    store = Store(f"{settings.media_url.rstrip('/')}/{settings.prefix}", loop)
    return RemoteMedia(store, settings.staging_dir)
