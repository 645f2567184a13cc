"""Print docs/settings.md, made from the fields of `Settings` and their docstrings.

    python docs/generate_settings.py > docs/settings.md

A test compares the committed page with the output.
"""

import sys
from collections.abc import Iterator

from pydantic.fields import FieldInfo

from worker.jobs.settings import PREFIX, Settings

#: Title of each table, by the first field in it. A table ends where the next one begins.
TABLES = {
    "home": "General",
    "host": "API",
    "worker": "Workers",
    "lease_ttl_s": "Jobs and limits",
    "webhook_private": "Webhooks",
}

INTRODUCTION = """\
<!-- `python docs/generate_settings.py` writes this page from worker/jobs/settings.py. -->

# Settings

Stoker reads its settings from environment variables. A command-line flag overrides the variable of the same
name: `stoker worker chat --slots 16` overrides `STOKER_SLOTS`. An empty variable counts as unset. A process
reads its settings once, when it starts. If a value is not valid, the process ends with an error that names
the variable.

The last part of a name is the unit: `_S` is seconds, `_BYTES` is bytes. A switch takes `True` or `False`.

A secret `X` can also come from a file, so that no other program sees it in the environment. `X_FILE` then
names the file. One line break at its end does not count. If both are set, `X` is used. The secrets are
{secrets}.

The variables that only the containers use are in [Deployment](deployment.md).
"""


def main() -> None:
    """Print the page."""
    sys.stdout.write(page())


def page() -> str:
    """Return the whole page as Markdown."""
    names = [f"`{PREFIX}{name.upper()}`" for name, field in Settings.model_fields.items() if not field.repr]
    introduction = INTRODUCTION.format(secrets=f"{', '.join(names[:-1])} and {names[-1]}")
    return introduction + "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    for name, field in Settings.model_fields.items():
        if name in TABLES:
            yield from ("", f"## {TABLES[name]}", "", "| variable | default | meaning |", "|---|---|---|")
        meaning = " ".join((field.description or "").split())
        yield f"| `{PREFIX}{name.upper()}` | {_default(field)} | {meaning} |"


def _default(field: FieldInfo) -> str:
    """Return the field's default as one would write it in the environment."""
    value = field.get_default()
    if value is None or value == "":
        return "unset"
    return f"`{value:.15g}`" if isinstance(value, float) else f"`{value}`"


if __name__ == "__main__":
    main()
