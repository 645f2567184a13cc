"""The media store of the settings: a shared folder, or a remote store."""

from asyncio import AbstractEventLoop

from worker.jobs.media.files import Media
from worker.jobs.media.local import LocalMedia
from worker.jobs.settings import Settings

__all__ = ["open_media_store"]


def open_media_store(settings: Settings, loop: AbstractEventLoop | None = None) -> Media:
    """Return the media store that the settings name. It does not connect yet. Raises `ConfigurationError`.

    A store whose library is asynchronous runs in the event loop `loop`, or by default in a loop of fsspec.
    """
    if settings.media_url is None:
        return LocalMedia(settings.media_dir)
    # Imported only here, because a shared folder does not need fsspec.
    from worker.jobs.media.object_store import ObjectStore
    from worker.jobs.media.remote import RemoteMedia

    store = ObjectStore(f"{settings.media_url.rstrip('/')}/{settings.prefix}", loop)
    return RemoteMedia(store, settings.staging_dir)
