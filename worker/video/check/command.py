"""The command `stoker check`, which tests whether a frame model keeps its contract."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from worker.jobs.errors import StokerError
from worker.jobs.options import COLUMNS, options_of
from worker.jobs.settings import Settings, set_env
from worker.jobs.system_errors import sentence
from worker.jobs.terminal import print_table, show_any_text
from worker.video import pipeline
from worker.video.runner_factory import configured_model

if TYPE_CHECKING:  # it imports torch, which takes seconds
    from worker.video.check.report import Report

__all__ = ["main"]


@click.command()
@click.argument("spec")
@click.option("--weights", type=click.Path(path_type=Path), help="File of the model's weights.")
@click.option("--clip", type=click.Path(path_type=Path), help="Use frames of this clip, and not made ones.")
@click.option("--frames", type=click.IntRange(2), help="Number of frames, by default two and a half batches.")
@click.option(
    "--set",
    "options",
    metavar="KEY=VALUE",
    multiple=True,
    help="Option of the model. VALUE is @FILE for a file. May be repeated.",
)
@click.option("--batch-size", type=int, help="Number of frames in a batch.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), help="By default a GPU, if there is one.")
@click.option(
    "--tolerance",
    type=click.FloatRange(0, 255),
    default=1,
    show_default=True,
    help="Largest difference between values (0 to 255) of frames that should be equal.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def main(spec: str, weights: Path | None, batch_size: int | None, as_json: bool, **how: Any) -> None:
    """Test whether the frame model SPEC keeps its contract, and measure it.

    SPEC names a model as `stoker worker video --model` does. The check runs jobs with and without padding,
    with another size of batches, after other jobs, and after an interruption. All must have the same results.
    It needs neither Redis nor the API. The exit status is 1 if the model breaks its contract.
    """
    show_any_text()
    # The pipeline logs the traceback of each job that fails. The check prints the author's part of it.
    logging.getLogger(pipeline.__name__).addHandler(logging.NullHandler())
    set_env(HF_HUB_OFFLINE="1")  # as in a worker
    from worker.video.check.authors_traceback import authors_traceback

    try:
        settings = Settings.from_env().replace(video_model=spec, video_weights=weights, batch_size=batch_size)
        with TemporaryDirectory(prefix="stoker-check-") as folder:
            _run(settings, Path(folder), as_json, **how)
    except (StokerError, OSError) as error:
        raise click.ClickException(f"{sentence(error)}\n{authors_traceback(error)}".rstrip()) from error


def _run(
    settings: Settings, folder: Path, as_json: bool, *, device: str | None, tolerance: float, **how: Any
) -> None:
    """Run the check, and print its report. Raises what the first step raises that the model fails."""
    from worker.video.check.model_check import ModelCheck
    from worker.video.check.report import Report
    from worker.video.check.trial import ContractBroken
    from worker.video.check.trial_factory import choose_device, make_trial, other_batch_size

    trial = make_trial(configured_model(settings), settings, folder, device=choose_device(device), **how)
    report = Report.of_trial(trial)
    if not as_json:
        _print_trial(report)
    failure: StokerError | None = None
    try:
        for step in ModelCheck(trial, other_batch_size(trial), tolerance, report).run():
            report.steps.append(step)
            if not as_json:
                click.echo(f"  ok  {step.name}" + (f" ({step.detail})" if step.detail else ""))
    except ContractBroken as error:
        failure = ContractBroken(f"{report.model} breaks its contract: {error}")
        failure.__cause__, report.broken = error, str(error)
    except StokerError as error:
        failure, report.broken = error, str(error)
    _print_outcome(report, as_json)
    if failure:
        raise failure


def _print_trial(report: Report) -> None:
    click.echo(f"{report.model} on {report.device}, {report.frames} frames in batches of {report.batch_size}")
    if options := options_of(report.parameters):
        print_table(COLUMNS, (option.row for option in options.values()))


def _print_outcome(report: Report, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(report.to_json(), indent=2))
        return
    if figures := report.figures:
        first, median, last = (f"{each:.1f}" for each in figures.batch_ms)
        click.echo(f"ms a batch: {first} first, {median} median, {last} last")
        alone, whole = figures.model_frames_s, figures.pipeline_frames_s
        click.echo(f"frames/s: {alone:.1f} of the model alone, {whole:.1f} of the pipeline")
        first, largest, last = (f"{each / 2**20:.0f}" for each in figures.peak_bytes)
        memory = f"{first} first, {largest} largest, {last} last ({figures.memory})"
        click.echo(f"MiB at the peak of a batch: {memory}")
    if report.broken is None:
        click.echo(f"{report.model} keeps the contract of frame models")
