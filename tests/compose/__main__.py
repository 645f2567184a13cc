"""`make compose-test`: builds, starts, scales 1 → 3 → 1 under load and faults, and accounts for every job."""

import signal

from tests.compose.bases import bases
from tests.compose.engine import running_engine
from tests.compose.project import running_project
from tests.compose.scenario import Scenario


def main() -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # clean up then, too
    with running_engine() as engine, running_project(engine, bases(engine)) as project:
        Scenario(project).run()


if __name__ == "__main__":
    main()
