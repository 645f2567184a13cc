"""`stoker video`: uploads a clip, and saves the result."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from webapi.cli.api import URL, client_of
from webapi.cli.output_file import check_output
from webapi.cli.shown_job import shown
from webapi.client import JobEvent
from webapi.client.timeline import Timeline
from worker.jobs.events import Progress, Queued, Started

__all__ = ["show_progress", "video"]


@click.command()
@URL
@click.argument("clip", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="File for the finished video, or for the records of a model that finds facts.",
)
@click.option("--effect", type=click.Choice(["background", "blur", "matte"]), help="Effect of the video.")
@click.option("--background", help="Background: a colour as #rrggbb, or an image file.")
@click.option("--pad", type=click.Choice(["last", "zeros"]), help="Frames that fill up the last batch.")
@click.option("--deinterlace/--no-deinterlace", default=None, help="Make interlaced frames progressive.")
@click.option(
    "--odd-size",
    type=click.Choice(["pad", "scale"]),
    help="Add a pixel to an odd width or height, or scale the clip.",
)
@click.option("--model", help="Name of the model. Needed if several are served.")
@click.option(
    "--set",
    "options",
    metavar="KEY=VALUE",
    multiple=True,
    help="Option of the model (see `stoker models show`). VALUE is @FILE for a file. May be repeated.",
)
def video(
    url: str | None, clip: Path, output: Path, background: str | None, options: Sequence[str], **form: Any
) -> None:
    """Upload CLIP as a video job and save the result. Ctrl-C cancels the job.

    A second Ctrl-C leaves the job running.
    """
    check_output(output, clip)
    if background and not background.startswith("#") and not Path(background).is_file():
        raise click.ClickException(f"background: {background} is neither #rrggbb nor an image file")
    chosen = dict(map(_option, options))
    client = client_of(url)
    size = clip.stat().st_size
    try:
        with tqdm(total=size, desc="upload", unit="B", unit_scale=True, disable=None, leave=False) as bar:
            job = client.submit_video(clip, background, options=chosen, on_upload=bar.update, **form)
    except KeyboardInterrupt:
        click.echo("\nthe upload was interrupted: `stoker status` shows whether there is a job", err=True)
        raise
    timeline = Timeline()
    with shown(client, job):
        show_progress(timeline.watch(client.follow(job["id"])))
    client.download(job["id"], output)
    click.echo(f"{output}: {timeline.summary('frames')}", err=True)


def _option(text: str) -> tuple[str, str | Path]:
    """Return the name and the value of an option KEY=VALUE. The value is a path if it is @FILE."""
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise click.ClickException(f"--set {text}: must be KEY=VALUE, or KEY=@FILE")
    if not value.startswith("@"):
        return name, value
    if not (path := Path(value[1:])).is_file():
        raise click.ClickException(f"--set {name}: there is no file {path}")
    return name, path


def show_progress(events: Iterator[JobEvent]) -> None:
    """Show the place in the queue, then the frames, frames/s and time left of a video job, until its end."""
    with tqdm(unit="frame", disable=None) as bar:
        for event in events:
            match event.body:
                case Queued(position=position):
                    bar.set_description(f"place {position} in the queue")
                case Started():
                    bar.set_description("video")
                    bar.reset()  # the time in the queue would count in the frames/s
                case Progress(done=done, total=total):
                    bar.total = total
                    bar.update(done - bar.n)
                    bar.refresh()  # a batch may follow the start too soon for `update` to draw it
