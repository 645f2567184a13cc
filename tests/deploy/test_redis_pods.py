"""A failover of the Redis that `deploy/kubernetes` configures, and an outage of its servers, under a chat."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.docs import ROOT

#: Debian has them in the packages redis-server, redis-tools, util-linux and iproute2.
NEEDED = ("redis-server", "redis-sentinel", "redis-cli", "unshare", "nsenter", "ip", "kubectl")

#: The test's processes see a network, mounts and processes of their own. The shell is the first of these
#: processes, and collects those whose parent has ended.
NAMESPACES = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
SHELL = ["sh", "-c", '"$@"; exit $?', "sh"]


@pytest.mark.long
@pytest.mark.timeout(400)
@pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need the user root")
@pytest.mark.skipif(not all(map(shutil.which, NEEDED)), reason=f"not all of {NEEDED} are installed")
def test_redis_pods_survive_failover_and_outage_under_a_chat(tmp_path: Path) -> None:
    program = [sys.executable, "-m", "tests.deploy.redis_pods", str(tmp_path)]
    done = subprocess.run(
        [*NAMESPACES, *SHELL, *program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
