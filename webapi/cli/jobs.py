"""`stoker chat`, `video`, `jobs`, `status`, `cancel` and `retry`: the commands for jobs."""

import json
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import click
from tqdm import tqdm

from webapi.cli.api import URL, client_of
from webapi.cli.output_file import check_output
from webapi.cli.prompt_options import prompt_options
from webapi.cli.sampling_options import sampling_options
from webapi.client import Client, JobEvent
from webapi.client.errors import ApiUnavailable, Json
from webapi.client.timeline import Timeline
from worker.jobs.events import Event, Progress, Reasoning, Token, ToolCall
from worker.jobs.kinds import KINDS
from worker.jobs.records import JobState
from worker.jobs.terminal import print_table

__all__ = ["cancel", "chat", "jobs", "retry", "show_progress", "status", "video"]


_JOBS = "JOB KIND MODEL STATE PROGRESS ATTEMPT WORKER"


@click.command()
@URL
@click.argument("prompt")
@click.option("--system", help="System message before the prompt.")
@click.option("--model", help="Name of the model. Needed if several are served.")
@sampling_options
@prompt_options
def chat(url: str | None, prompt: str, system: str | None, **options: Any) -> None:
    """Submit PROMPT as a chat and print the answer as it arrives. Ctrl-C cancels the job.

    A second Ctrl-C leaves the job running.
    """
    messages = [{"role": "system", "content": system}] if system else []
    body = {"messages": [*messages, {"role": "user", "content": prompt}], **options}
    client = client_of(url)
    job = _submit_chat(client, {name: value for name, value in body.items() if value not in (None, (), {})})
    timeline = Timeline()
    with _shown(client, job):
        for event in timeline.watch(client.follow(job["id"])):
            _show_answer(event.body)
    click.echo()
    click.echo(timeline.summary("tokens"), err=True)


def _show_answer(event: Event | None) -> None:
    """Print a part of an answer. Reasoning is not a part of the output that a program may read."""
    match event:
        case Token(text=text):
            click.echo(text, nl=False)
        case Reasoning(text=text):
            click.secho(text, nl=False, err=True, dim=True)
        case ToolCall(name=name, arguments=arguments):
            click.echo(f"\n{name} {arguments}" if name else arguments, nl=False)


def _submit_chat(client: Client, body: Json) -> Json:
    """Submit the chat, and return its job. Ctrl-C before the API has answered cancels the job, too."""
    key = uuid.uuid4().hex
    try:
        return client.submit_chat(body, idempotency_key=key)
    except KeyboardInterrupt:
        client.cancel(client.submit_chat(body, idempotency_key=key)["id"])  # the same job, if there is one
        raise


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
    try:
        job = client.submit_video(clip, background, options=chosen, **form)
    except KeyboardInterrupt:
        click.echo("\nthe upload was interrupted: `stoker status` shows whether there is a job", err=True)
        raise
    timeline = Timeline()
    with _shown(client, job):
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
    """Show a progress bar for the events of a video job, until they end."""
    with tqdm(unit="frame", disable=None) as bar:
        for event in events:
            if isinstance(event.body, Progress):
                bar.total = event.body.total
                bar.update(event.body.done - bar.n)


@contextmanager
def _shown(client: Client, job: Json) -> Iterator[None]:
    """Print the job's id. Cancel the job if the user presses Ctrl-C or closes the output."""
    job_id = job["id"]
    click.echo(f"job {job_id}", err=True)
    try:
        yield
    except (KeyboardInterrupt, BrokenPipeError):
        click.echo(f"\ncanceling job {job_id}; Ctrl-C again leaves it running", err=True)
        client.cancel(job_id)
        raise
    except ApiUnavailable as error:
        way_out = f"job {job_id} may go on: `stoker status` shows it, `stoker cancel {job_id}` ends it"
        raise ApiUnavailable(f"{error}; {way_out}") from error


@click.command()
@URL
@click.argument("job_id", metavar="JOB")
def cancel(url: str | None, job_id: str) -> None:
    """Cancel the job with the id JOB. A running job ends at its next step."""
    job = client_of(url).cancel(job_id)
    click.echo(f"job {job_id} is {'being canceled' if job['state'] == 'running' else job['state']}")


@click.command()
@URL
@click.argument("job_id", metavar="JOB")
def retry(url: str | None, job_id: str) -> None:
    """Submit the failed or canceled job with the id JOB again, as a new job, and print the new id."""
    job = client_of(url).retry(job_id, idempotency_key=uuid.uuid4().hex)
    click.echo(job["id"])


_JSON = click.option("--json", "as_json", is_flag=True, help="Print the API's documents as JSON.")


@click.command()
@URL
@click.option("--state", type=click.Choice(get_args(JobState)), help="Only the jobs in this state.")
@click.option("--kind", type=click.Choice([*KINDS]), help="Only the jobs of this kind.")
@click.option("--limit", type=click.IntRange(1, 100), default=20, show_default=True, help="Number of jobs.")
@_JSON
def jobs(url: str | None, state: str | None, kind: str | None, limit: int, as_json: bool) -> None:
    """List your jobs, newest first."""
    found = client_of(url).jobs(state, limit, kind)
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        print_table(_JOBS, map(_job_row, found))


@click.command()
@URL
@_JSON
def status(url: str | None, as_json: bool) -> None:
    """Show the queues, their jobs, and the workers."""
    client = client_of(url)
    queues, workers = client.queues(), client.workers()
    listed = client.jobs("queued")[::-1] + client.jobs("running")
    # A job may have started between the two requests.
    found = list({job["id"]: job for job in listed}.values())
    if as_json:
        click.echo(json.dumps({"queues": queues, "jobs": found, "workers": workers}, indent=2))
        return
    for title, rows in (
        ("QUEUE WAITING RUNNING SLOTS CAP WAIT", map(_queue_row, queues)),
        (_JOBS, map(_job_row, found)),
        ("WORKER STATE DEVICE MODEL ENGINE RUNNING MEMORY", map(_worker_row, workers)),
    ):
        print_table(title, rows)
        click.echo()


def _queue_row(queue: Json) -> Sequence[object]:
    wait = queue["estimated_wait_s"]
    counts = [queue[name] for name in ("name", "waiting", "running", "slots", "max_waiting")]
    if queue.get("paused"):  # an older API does not tell it
        return [*counts, "paused"]
    return [*counts, "unknown" if wait is None else f"{wait:.0f} s"]


def _job_row(job: Json) -> Sequence[object]:
    done = job["progress"]
    progress = f"{done['done']}/{done['total'] or '?'} {done['unit']}"
    if job["state"] == "queued":
        progress = f"position {job['queue_position'] or '?'}"  # the job may just have left the queue
    model = job.get("model", "-")  # an older API does not tell it
    return [job["id"], job["kind"], model, job["state"], progress, job["attempt"], job["worker"] or "-"]


def _worker_row(card: Json) -> Sequence[object]:
    memory, slots = card["memory"], f"{card['running']}/{card['slots']}"
    used = f"{memory['allocated'] / 2**20:.0f} MiB ({memory['source']})" if memory else "-"
    return [card["name"], card["state"], card["device"], card["model"], card["engine"], slots, used]
