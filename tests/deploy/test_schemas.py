"""The board in Grafana's schema, and `keda.yaml` in KEDA's: a field that these do not know is an error.

The schemas are types of TypeScript, so the compiler checks the files.
"""

import json
import subprocess
from pathlib import Path

import pytest

from tests.support.deploy import BOARD, KEDA, read_all

#: What npm installs.
NODE_MODULES = Path(__file__).with_name("node_modules")

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not NODE_MODULES.is_dir(), reason="npm has not installed tests/deploy/package.json"),
]

BOARD_SCHEMA = Path(__file__).with_name("board_schema.ts").read_text()
KEDA_SCHEMA = """\
import type { IScaledObject } from "@kubernetes-models/keda/keda.sh/v1alpha1/ScaledObject";
export const objects: IScaledObject[] =
"""


def compile_errors(folder: Path, schema: str, data: object) -> str:
    """Return what the compiler says about a constant with this type and value."""
    (folder / "node_modules").symlink_to(NODE_MODULES)
    (folder / "package.json").write_text('{"type": "module"}')
    (folder / "constant.ts").write_text(f"{schema}{json.dumps(data)};\n")
    options = ["--noEmit", "--strict", "--skipLibCheck", "--module", "nodenext"]
    command = [str(NODE_MODULES / ".bin" / "tsc"), *options, "constant.ts"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False).stdout


def test_board_has_only_fields_of_grafanas_schema(tmp_path: Path) -> None:
    assert compile_errors(tmp_path, BOARD_SCHEMA, json.loads(BOARD.read_text())) == ""


def test_board_schema_refuses_an_unknown_field(tmp_path: Path) -> None:
    board = json.loads(BOARD.read_text())
    board["panels"][1]["fieldConfig"]["defaults"]["custom"]["lineWidht"] = 1
    assert "'\"lineWidht\"' does not exist" in compile_errors(tmp_path, BOARD_SCHEMA, board)


def test_keda_objects_have_only_fields_of_kedas_schema(tmp_path: Path) -> None:
    objects = read_all(KEDA)
    assert compile_errors(tmp_path, KEDA_SCHEMA, objects) == ""
    objects[0]["spec"]["maxReplicas"] = 8
    (tmp_path / "wrong").mkdir()
    assert "'\"maxReplicas\"' does not exist" in compile_errors(tmp_path / "wrong", KEDA_SCHEMA, objects)
