"""Run the test of the deployment (`make compose-test`).

It builds the images, starts the stack, scales it from one chat worker to three and back under load and
faults, and checks every job.
"""

import signal

from tests.compose.base_images import base_images
from tests.compose.docker_engine import running_docker
from tests.compose.project import running_project
from tests.compose.scenario import Scenario


def main() -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that SIGTERM cleans up, too
    with running_docker() as docker, running_project(docker, base_images(docker)) as project:
        Scenario(project).run_all()


if __name__ == "__main__":
    main()
