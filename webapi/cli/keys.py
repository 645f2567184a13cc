"""`stoker keys`: creates, lists, rotates and revokes API keys directly in Redis."""

import re
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import click

from webapi.cli.json_option import JSON, print_json
from webapi.keys.key import ALL_SCOPES, DEFAULT_SCOPES, Key, NewKey
from webapi.keys.key_changes import KeyChange, KeyChanges
from webapi.keys.keys import Keys
from webapi.keys.signing_keys import SigningKeys
from webapi.local import state_file
from worker.jobs.ledger.store import RedisStore
from worker.jobs.records import rfc3339
from worker.jobs.settings import Settings
from worker.jobs.terminal import print_table

__all__ = ["keys"]

UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
#: `stoker keys list` warns of keys that expire within this time.
WARN_S = 30 * 86_400
_KEYS = "ID NAME STATE SCOPES CREATED EXPIRES LAST-USED MAX-WAITING MAX-RUNNING"
#: The fields of a key that are times. JSON has them as texts, as the API's documents do.
_TIMES = ("created_at", "expires_at", "last_used_at", "revoked_at")


@click.group()
def keys() -> None:
    """Create, list, rotate and revoke API keys.

    The keys are in the Redis of STOKER_REDIS_URL, or else of the running `stoker up`.
    """


def _store() -> RedisStore:
    store = RedisStore(state_file.follow(Settings.from_env()))
    click.get_current_context().call_on_close(store.close)
    return store


def _seconds(_: click.Context, __: click.Parameter, text: str) -> int:
    parts = re.fullmatch(r"([0-9]{1,9})([smhdw])", text)
    if parts is None:
        raise click.BadParameter("must be a number with s, m, h, d or w, such as 30d or 12h")
    return int(parts[1]) * UNITS_S[parts[2]]


def _lifetime(context: click.Context, option: click.Parameter, text: str) -> int | None:
    if text == "never":
        return None
    seconds = _seconds(context, option, text)
    if seconds == 0:
        raise click.BadParameter("must be a time such as 30d or 12h, or never")
    return seconds


def _scopes(_: click.Context, __: click.Parameter, text: str) -> Sequence[str]:
    scopes = text.split(",")
    if not set(scopes) <= set(ALL_SCOPES):
        raise click.BadParameter(f"must be some of {','.join(ALL_SCOPES)}")
    return [scope for scope in ALL_SCOPES if scope in scopes]


_EXPIRES = click.option(
    "--expires",
    "expires_s",
    callback=_lifetime,
    default="365d",
    show_default=True,
    help="Time until the key expires, such as 30d or 12h, or never.",
)


@keys.command()
@click.argument("name")
@click.option(
    "--scopes",
    callback=_scopes,
    default=",".join(DEFAULT_SCOPES),
    show_default=True,
    help=f"What the key may do, some of {','.join(ALL_SCOPES)}.",
)
@click.option("--admin", is_flag=True, help="Give the key all scopes.")
@click.option("--max-waiting", type=click.IntRange(1), help="Limit of the key's waiting jobs.")
@click.option("--max-running", type=click.IntRange(1), help="Limit of the key's running jobs.")
@_EXPIRES
@click.option("--if-none", is_flag=True, help="Create the key only if none exists.")
def create(name: str, admin: bool, if_none: bool, **options: Any) -> None:
    """Create a key for NAME and print it. It is shown only this once."""
    if not name.isprintable() or not name.strip():
        raise click.BadParameter("must have characters, and only such as can be printed", param_hint="NAME")
    api_keys = Keys(_store())
    if if_none and api_keys.any():
        click.echo("There are keys already: `stoker keys create NAME` makes another.", err=True)
        return
    _show(api_keys.create(name, **options | ({"scopes": ALL_SCOPES} if admin else {})))


def _show(new: NewKey) -> None:
    """Print the text of the key, and when it expires."""
    click.echo(new.text)
    expires = new.key.expires_at
    until = "never expires" if expires is None else f"expires at {rfc3339(expires)}"
    click.echo(
        f"Keep it now: it is stored as a hash, and will not be shown again. The key {until}.", err=True
    )


@keys.command("list")
@JSON
def list_keys(as_json: bool) -> None:
    """List the keys without their secrets."""
    store = _store()
    found, warn_until = Keys(store).list(), store.clock.now() + WARN_S
    if as_json:
        print_json([asdict(key) | {name: _rfc3339(getattr(key, name)) for name in _TIMES} for key in found])
    else:
        print_table(_KEYS, map(_row, found))
    for key in found:
        if key.state == "valid" and key.expires_at is not None and key.expires_at < warn_until:
            what = f"{key.id} ({key.name}) expires at {rfc3339(key.expires_at)}"
            click.echo(f"{what}: `stoker keys rotate {key.id}` renews it.", err=True)


def _row(key: Key) -> Sequence[object]:
    times = [_rfc3339(at) or "-" for at in (key.created_at, key.expires_at, key.last_used_at)]
    caps = [key.max_waiting or "-", key.max_running or "-"]
    return [key.id, key.name, key.state, ",".join(key.scopes), *times, *caps]


def _rfc3339(epoch_s: float | None) -> str | None:
    return None if epoch_s is None else rfc3339(epoch_s)


@keys.command()
@click.argument("key_id", metavar="ID")
@click.option(
    "--grace",
    "grace_s",
    callback=_seconds,
    default="24h",
    show_default=True,
    help="Time for which the old text stays valid. 0s ends it at once.",
)
@_EXPIRES
def rotate(key_id: str, grace_s: int, expires_s: int | None) -> None:
    """Print a new text of the key with this ID. Its jobs, limits and scopes stay."""
    _show(Keys(_store()).rotate(key_id, grace_s=grace_s, expires_s=expires_s))


@keys.command()
@click.argument("key_id", metavar="ID")
def revoke(key_id: str) -> None:
    """Revoke the key with this ID. Jobs that were submitted with it go on."""
    key = Keys(_store()).revoke(key_id)
    click.echo(f"{key.id} ({key.name}) is revoked")


@keys.command()
@JSON
def audit(as_json: bool) -> None:
    """List who created, rotated and revoked keys, oldest first."""
    changes = KeyChanges(_store()).list()
    if as_json:
        print_json([asdict(change) | {"time": rfc3339(change.time)} for change in changes])
    else:
        print_table("TIME ACTION ID NAME BY", map(_change, changes))


def _change(change: KeyChange) -> Sequence[object]:
    return [rfc3339(change.time), change.action, change.key, change.name, change.by]


@keys.command("webhook-secret")
@click.argument("key_id", metavar="[ID]", default="")
def webhook_secret(key_id: str) -> None:
    """Print the secret that signs the webhooks of the key with this ID.

    Without ID, print the secret for jobs that were submitted without a key.
    """
    store = _store()
    if key_id:
        Keys(store).get(key_id)
    click.echo(SigningKeys(store).webhook_key(key_id))
