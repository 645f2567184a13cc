"""Print docs/settings.md, made from the descriptions of the settings.

    python docs/generate_settings.py > docs/settings.md

A test compares the committed page with the output.
"""

import sys
from collections.abc import Iterator
from itertools import groupby

from worker.jobs.settings import Setting, Settings

INTRODUCTION = """\
<!-- `python docs/generate_settings.py` writes this page from worker/jobs/settings. -->

# Settings

Stoker reads its settings from environment variables. A command-line flag overrides the variable of the same
name: `stoker worker chat --slots 16` overrides `STOKER_SLOTS`. An empty variable counts as unset. A process
reads its settings once, when it starts. If a value is not valid, the process ends with an error that names
the variable.

The last part of a name is the unit: `_S` is seconds, `_BYTES` is bytes. A switch takes `True` or `False`.

A secret `X` can also come from a file, so that no other program sees it in the environment. `X_FILE` then
names the file. One line break at its end does not count. If both are set, `X` is used. The secrets are
{secrets}.

`stoker settings` prints each setting with its value, its default, and the source of the value: the
environment, a file, or the default. `stoker settings --json` prints the same as JSON. Both print `***` for a
secret.

The variables that only the containers use are in [Deployment](deployment.md).
"""


def main() -> None:
    """Print the page."""
    sys.stdout.write(page())


def page() -> str:
    """Return the whole page as Markdown."""
    settings = Settings().describe()
    secrets = [f"`{setting.variable}`" for setting in settings if setting.secret]
    introduction = INTRODUCTION.format(secrets=f"{', '.join(secrets[:-1])} and {secrets[-1]}")
    return introduction + "\n".join(_lines(settings)) + "\n"


def _lines(settings: list[Setting]) -> Iterator[str]:
    for area, rows in groupby(settings, lambda setting: setting.area):
        yield from ("", f"## {area}", "", "| variable | default | meaning |", "|---|---|---|")
        for setting in rows:
            default = "unset" if setting.default is None else f"`{setting.default}`"
            yield f"| `{setting.variable}` | {default} | {setting.description} |"


if __name__ == "__main__":
    main()
