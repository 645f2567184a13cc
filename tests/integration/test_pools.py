"""Any pool but solo is refused at start, with the reason."""

import subprocess
import sys

import pytest

from worker.jobs.settings import Settings, child_env


@pytest.mark.parametrize("pool", ["prefork", "threads", "gevent"])
def test_a_pool_that_would_fork_or_share_the_model_is_refused(settings: Settings, pool: str) -> None:
    command = [sys.executable, "-m", "celery", "-A", "worker.app", "worker", "--pool", pool]
    env = child_env(settings.updated(worker="chat", devices="cpu"))
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "is refused: a GPU worker is one process with one warm model" in done.stderr
    assert "CUDA cannot be re-initialised in a forked subprocess" in done.stderr
    assert "Traceback" not in done.stderr
