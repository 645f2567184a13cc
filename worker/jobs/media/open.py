"""Opening the media store that the settings name."""

from asyncio import AbstractEventLoop

from worker.jobs.media.files import Media
from worker.jobs.media.local import LocalMedia
from worker.jobs.settings import Settings

__all__ = ["open_media_store"]


def open_media_store(settings: Settings, loop: AbstractEventLoop | None = None) -> Media:
    """The media store that the settings name; nothing connects yet. Raises `ConfigurationError`.

    `loop` is for stores whose library is asynchronous; by default that library has one of its own.
    """
    if settings.media_url is None:
        return LocalMedia(settings.media_dir)
    from worker.jobs.media.object_store import ObjectStore
    from worker.jobs.media.remote import RemoteMedia  # fsspec is needed for no other

    store = ObjectStore(f"{settings.media_url.rstrip('/')}/{settings.prefix}", loop)
    return RemoteMedia(store, settings.staging_dir)
