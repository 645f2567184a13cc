"""`stoker keys`: creates, lists and revokes API keys directly in Redis."""

import re
from collections.abc import Sequence

import click

from webapi.cli.table import print_table
from webapi.local import state_file
from webapi.services.keys import Key, Keys
from webapi.services.signing_keys import SigningKeys
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.records import rfc3339
from worker.jobs.settings import Settings

__all__ = ["keys"]

UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


@click.group()
def keys() -> None:
    """Create, list and revoke API keys.

    The keys are in the Redis of STOKER_REDIS_URL, or else of the running `stoker up`.
    """


def _ledger() -> Ledger:
    ledger = Ledger(state_file.apply_to(Settings.from_env()))
    click.get_current_context().call_on_close(ledger.redis.close)
    return ledger


def _seconds(_: click.Context, __: click.Parameter, text: str | None) -> int | None:
    if text is None:
        return None
    parts = re.fullmatch(r"([1-9][0-9]{0,8})([smhdw])", text)
    if parts is None:
        raise click.BadParameter("must be a number with s, m, h, d or w, such as 30d or 12h")
    return int(parts[1]) * UNITS_S[parts[2]]


@keys.command()
@click.argument("name")
@click.option("--max-waiting", type=click.IntRange(1), help="Limit of the key's waiting jobs.")
@click.option("--max-running", type=click.IntRange(1), help="Limit of the key's running jobs.")
@click.option(
    "--expires",
    callback=_seconds,
    help="Time until the key expires, such as 30d or 12h. By default it never does.",
)
@click.option("--if-none", is_flag=True, help="Create the key only if none exists.")
def create(
    name: str, max_waiting: int | None, max_running: int | None, expires: int | None, if_none: bool
) -> None:
    """Create a key for NAME and print it. It is shown only this once."""
    if not name.isprintable() or not name.strip():
        raise click.BadParameter("must have characters, and only such as can be printed", param_hint="NAME")
    api_keys = Keys(_ledger())
    if if_none and api_keys.any():
        click.echo("There are keys already: `stoker keys create NAME` makes another.", err=True)
        return
    new = api_keys.create(name, max_waiting=max_waiting, max_running=max_running, expires_s=expires)
    click.echo(new.text)
    click.echo("Keep it now: it is stored as a hash, and will not be shown again.", err=True)


@keys.command("list")
def list_keys() -> None:
    """List the keys without their secrets."""
    print_table("ID NAME STATE CREATED EXPIRES MAX-WAITING MAX-RUNNING", map(_row, Keys(_ledger()).list()))


def _row(key: Key) -> Sequence[object]:
    expires = "-" if key.expires_at is None else rfc3339(key.expires_at)
    caps = [key.max_waiting or "-", key.max_running or "-"]
    return [key.id, key.name, key.state, rfc3339(key.created_at), expires, *caps]


@keys.command()
@click.argument("key_id", metavar="ID")
def revoke(key_id: str) -> None:
    """Revoke the key with this ID. Jobs that were submitted with it go on."""
    key = Keys(_ledger()).revoke(key_id)
    click.echo(f"{key.id} ({key.name}) is revoked")


@keys.command("webhook-secret")
@click.argument("key_id", metavar="[ID]", default="")
def webhook_secret(key_id: str) -> None:
    """Print the secret that signs the webhooks of the key with this ID.

    Without ID, print the secret for jobs that were submitted without a key.
    """
    ledger = _ledger()
    if key_id:
        Keys(ledger).get(key_id)
    click.echo(SigningKeys(ledger).webhook_key(key_id))
