"""Remote media on an S3 server: the object store, the staging of files, and a server that does not answer."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.job_ids import A, B
from tests.support.s3 import S3Server
from tests.support.video.small_disk import ROOM, small_disk
from worker.jobs.errors import ConfigurationError, DiskFull, MediaUnavailable, QueueFull, SubmitOutcomeUnknown
from worker.jobs.media.files import RECORDS, VIDEO, JobFiles, Media
from worker.jobs.media.object_store import PART_BYTES, ObjectStore
from worker.jobs.media.open import open_media_store
from worker.jobs.media.remote import RemoteMedia
from worker.jobs.media.stored_file import StoredFile
from worker.jobs.settings import Settings


@pytest.fixture(scope="module")
def remote_settings(s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings with a prefix in the bucket that no other test uses."""
    return Settings(media_url="s3://media", prefix="remote", home=tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def shared_store(remote_settings: Settings) -> ObjectStore:
    """A store that all tests share, because its creation takes long."""
    return ObjectStore(f"s3://media/{remote_settings.prefix}")


@pytest.fixture
def store(shared_store: ObjectStore) -> ObjectStore:
    """The store without files."""
    shared_store.remove("")
    return shared_store


@pytest.fixture(params=["s3", "file", "memory"])
def any_store(request: pytest.FixtureRequest, store: ObjectStore, tmp_path: Path) -> ObjectStore:
    """A store on S3, and two whose libraries are not asynchronous."""
    urls = {"file": (tmp_path / "store").as_uri(), "memory": f"memory://{tmp_path}"}
    return ObjectStore(urls[request.param]) if request.param in urls else store


@pytest.fixture
def media(store: ObjectStore, remote_settings: Settings) -> Media:
    return RemoteMedia(store, remote_settings.staging_dir)


def read_all(stored: Path | StoredFile) -> bytes:
    assert isinstance(stored, StoredFile)
    found = b"".join(stored.blocks())
    assert len(found) == stored.size
    return found


def submit(media: Media, job_id: str = A) -> JobFiles:
    """Store the inputs of a job."""
    files = media.files(job_id)
    with files.for_upload():
        files.clip.write_bytes(b"a clip")
        files.upload("background").write_bytes(b"an image")
        with files.store_inputs():
            pass
    return files


def staged(settings: Settings) -> set[str]:
    """Return the names in the staging directory."""
    return {path.name for path in settings.staging_dir.iterdir()}


def test_object_store_returns_file_and_range_of_it(any_store: ObjectStore, tmp_path: Path) -> None:
    store, path = any_store, tmp_path / "file"
    path.write_bytes(os.urandom(2 * PART_BYTES + 1))  # uploaded in parts, downloaded in blocks
    store.put(path, f"{A}/clip")
    stored = store.file(f"{A}/clip")
    assert read_all(stored) == path.read_bytes()
    assert b"".join(stored.blocks(10, stored.block + 20)) == path.read_bytes()[10 : stored.block + 20]


def test_object_store_lists_and_removes_files_below_key(any_store: ObjectStore, tmp_path: Path) -> None:
    store, path = any_store, tmp_path / "file"
    path.write_bytes(b"four")
    for key in ("a/clip", "a/work/x/1", "ab/clip"):
        store.put(path, key)
    assert store.list("a") == {"clip": 4, "work/x/1": 4}
    store.remove("a/work")
    assert set(store.list()) == {"a/clip", "ab/clip"}
    store.remove("a")
    store.remove("a")
    assert set(store.list()) == {"ab/clip"}
    assert store.list("a") == {}
    with pytest.raises(FileNotFoundError):
        store.file("a/clip")


OPERATIONS: dict[str, Callable[[ObjectStore, Path], object]] = {
    "put": lambda store, path: store.put(path, "a/clip"),
    "file": lambda store, path: store.file("a/clip"),
    "read": lambda store, path: list(store.file("a/clip", 4).blocks()),
    "list": lambda store, path: store.list("a"),
    "remove": lambda store, path: store.remove("a"),
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_object_store_gives_up_after_timeout_and_works_again(
    s3: S3Server, store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"four")
    store.put(path, "a/clip")
    with monkeypatch.context() as patch, s3.frozen():
        patch.setattr(store, "timeout_s", 0.1)
        with pytest.raises(
            MediaUnavailable, match=r"^The media store is not available \(FSTimeoutError\)\.$"
        ):
            OPERATIONS[operation](store, path)
    store.put(path, "a/clip")
    assert read_all(store.file("a/clip")) == b"four"


def test_object_store_reports_missing_bucket_as_unavailable(s3: S3Server, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    with pytest.raises(MediaUnavailable, match="FileNotFoundError"):
        ObjectStore("s3://nowhere").put(path, "a/clip")


def test_object_store_reports_file_that_shrinks_while_read(store: ObjectStore, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"four")
    store.put(path, "a")
    stored = store.file("a")
    path.write_bytes(b"two")
    store.put(path, "a")
    with pytest.raises(MediaUnavailable, match="changed"):
        list(stored.blocks())


@pytest.mark.parametrize(
    ("url", "reason"), [("nosuch://x", "nosuch"), ("gs://x", "gcsfs"), ("s3:/x", "URL of a store")]
)
def test_open_media_store_refuses_url_without_library(url: str, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=f"STOKER_MEDIA_URL: .*{reason}"):
        open_media_store(Settings.from_env({"STOKER_MEDIA_URL": url}))


def test_remote_files_are_staged_only_while_checked_out(media: Media, remote_settings: Settings) -> None:
    uploaded = submit(media)
    files = media.files(A)
    with files.checked_out():
        assert (files.clip.read_bytes(), files.upload("background").read_bytes()) == (b"a clip", b"an image")
        assert staged(remote_settings) == {files.folder.name, f"{files.folder.name}.lock"}
    assert staged(remote_settings) == set()
    assert not uploaded.folder.exists()


@pytest.mark.parametrize("error", [QueueFull("full", 1), KeyboardInterrupt(), SubmitOutcomeUnknown("?")])
def test_remote_files_are_removed_after_refused_submit_unless_outcome_unknown(
    media: Media, remote_settings: Settings, error: BaseException
) -> None:
    def upload() -> None:
        files = media.files(A)
        with files.for_upload():
            files.clip.write_bytes(b"a clip")
            with files.store_inputs():
                raise error

    with pytest.raises(type(error)):
        upload()
    assert staged(remote_settings) == set()
    left = [files.job_id for files in media.all_files()]
    assert left == ([A] if isinstance(error, SubmitOutcomeUnknown) else [])


def test_remote_files_report_full_disk_and_leave_nothing_on_it(
    media: Media, store: ObjectStore, tmp_path: Path
) -> None:
    files = submit(media)
    large = tmp_path / "large"
    large.write_bytes(bytes(2 * ROOM))
    store.put(large, f"{A}/clip")
    with small_disk(tmp_path / "small") as disk:
        with pytest.raises(DiskFull, match="There is no room"):
            RemoteMedia(store, disk / "staging").files(A).checked_out().__enter__()
        assert list((disk / "staging").iterdir()) == []
    assert not files.folder.exists()


def test_remote_files_of_next_attempt_have_complete_work_files_only(
    media: Media, store: ObjectStore, tmp_path: Path
) -> None:
    submit(media)
    one, other = media.files(A), RemoteMedia(store, tmp_path / "staging").files(A)
    with one.checked_out():
        one.work.mkdir()
        for name in ("1.nut", "2.nut", "3.complete"):
            partial = one.work / "partial"
            partial.write_bytes(b"" if name == "3.complete" else name.encode())
            one.publish(partial, one.work / name)
            assert not partial.exists()
        half = tmp_path / "half"
        half.write_bytes(b"2.n")
        store.put(half, f"{A}/work/2.nut.5")  # an upload that a killed worker did not complete
        with other.checked_out():
            assert sorted(path.name for path in other.work.iterdir()) == ["1.nut", "3.complete"]
            assert (other.work / "1.nut").read_bytes() == b"1.nut"
    other.remove_work()
    with other.checked_out():
        assert not other.work.exists()


def test_remote_files_outside_staging_folder_are_not_written(
    media: Media, store: ObjectStore, remote_settings: Settings, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"clip")
    for name in ("clip", "../escaped", "work/../../escaped", "work/./../../escaped", "other"):
        store.put(file, f"{A}/{name}")
        store.put(file, f"{A}/{name}.4")
    with media.files(A).checked_out():
        found = [path.name for path in remote_settings.home_dir.rglob("*") if path.is_file()]
    assert sorted(name for name in found if not name.endswith(".lock")) == ["clip"]


def test_remote_result_exists_from_publish_to_removal(media: Media) -> None:
    files = submit(media)
    with files.checked_out():
        with pytest.raises(FileNotFoundError):
            files.finished(VIDEO)
        partial = files.folder / "partial"
        partial.write_bytes(b"a video")
        files.publish(partial, files.result)
        assert read_all(media.files(A).finished(VIDEO)) == b"a video"
        with media.files(A).checked_out():
            pass
    media.files(A).remove_inputs()
    with media.files(A).checked_out():
        assert not media.files(A).clip.exists()
    assert read_all(media.files(A).finished(VIDEO)) == b"a video"
    media.files(A).remove_result()
    with pytest.raises(FileNotFoundError):
        media.files(A).finished(VIDEO)


def test_remote_records_outlive_the_uploads_of_every_option(media: Media) -> None:
    files = submit(media)
    with files.for_upload():
        files.upload("mask").write_bytes(b"a mask")
        with files.store_inputs():
            pass
    attempt = media.files(A)
    with attempt.checked_out():
        assert attempt.upload("mask").read_bytes() == b"a mask"
        assert attempt.input_bytes == len(b"a clip" + b"an image" + b"a mask")
        partial = attempt.folder / "partial"
        partial.write_bytes(b'{"frame": 0}\n')
        attempt.publish(partial, attempt.records)
    media.files(A).remove_inputs()
    with media.files(A).checked_out():
        assert read_all(media.files(A).finished(RECORDS)) == b'{"frame": 0}\n'
    with pytest.raises(FileNotFoundError):
        media.files(A).finished(VIDEO)
    media.files(A).remove_result()
    assert list(media.all_files()) == []


@pytest.mark.parametrize("name", ["", "a/b", "..", "a.b", "ä", "x" * 65, "a\n"])
def test_files_of_options_have_names_without_paths(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="cannot be the name of an option"):
        JobFiles.at(tmp_path, A).upload(name)


def test_remote_media_lists_jobs_with_files(media: Media) -> None:
    submit(media)
    submit(media, B)
    assert [files.job_id for files in media.all_files()] == [A, B]
    media.files(A).remove()
    assert [files.job_id for files in media.all_files()] == [B]


def test_staging_removes_folder_of_killed_process_and_no_other(
    media: Media, remote_settings: Settings
) -> None:
    folder = remote_settings.staging_dir / "killed.1"
    code = (
        "import sys, signal\nfrom pathlib import Path\nfrom worker.jobs.media.staging import staging_folder\n"
        "with staging_folder(Path(sys.argv[1])):\n"
        "    (Path(sys.argv[1]) / 'clip').touch()\n    print('here', flush=True)\n    signal.pause()\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, folder], stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        with media.files(A).for_upload():
            assert (folder / "clip").exists()
        process.send_signal(signal.SIGKILL)
    assert staged(remote_settings) == {"killed.1", "killed.1.lock"}
    files = media.files(B)
    with files.for_upload():
        assert staged(remote_settings) == {files.folder.name, f"{files.folder.name}.lock"}
    assert staged(remote_settings) == set()


#: A process like gunicorn's: its threads are greenlets, and asyncio would refuse a loop in one of them to the
#: others. Eight of them upload at the same time.
GEVENT = """
from gevent import monkey; monkey.patch_all()
import os, sys
from pathlib import Path
import gevent
from webapi.services.gevent_media import open_media
from worker.jobs.settings import Settings

media = open_media(Settings(media_url="s3://media", prefix="gevent", home=Path(sys.argv[1])))
content = os.urandom(100_000)

def upload(job_id):
    files = media.files(job_id)
    with files.for_upload():
        files.clip.write_bytes(content)
        with files.store_inputs():
            pass
    with files.checked_out():
        assert files.clip.read_bytes() == content
    files.remove()

gevent.joinall([gevent.spawn(upload, f"{n:032}") for n in range(8)], raise_error=True)
assert list(media.all_files()) == []
"""


def test_remote_media_works_in_concurrent_greenlets_and_lets_process_exit(
    s3: S3Server, tmp_path: Path
) -> None:
    subprocess.run([sys.executable, "-c", GEVENT, tmp_path], check=True, timeout=60)
