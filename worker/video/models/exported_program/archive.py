"""Checks archives of `torch.export.save` (`.pt2`), whose loading could run code.

`torch.export.load` (torch 2.13) unpickles some members without restrictions, evaluates expressions as Python,
looks functions up by name, and loads compiled libraries. So each member is checked first, and torch gets a
copy that has the checked members only.
"""

from __future__ import annotations

import ast
import json
import pickle
import re
import zipfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import sympy
import torch
from torch.utils._sympy import functions as torch_sympy

from worker.jobs.errors import ModelMissing

__all__ = ["checked_archive"]

#: The operators in a graph, and Python's functions that compute sizes.
_OPERATOR = re.compile(
    r"torch\.ops\.[a-z]\w*\.(_?[a-z]\w*|__i?(and|or|xor|lshift|rshift)__)(\.[A-Za-z]\w*)?"
    r"|torch\.sym_[a-z]+|math\.trunc"
    r"|_operator\.(eq|ne|le|ge|lt|gt|neg|pos|mul|add|sub|floordiv|mod|pow|truediv|and_|or_|lshift|rshift|getitem)"
)
_IDENTIFIER = re.compile(r"[\w.]*")
_SYMBOL = re.compile(r"[a-z]+\d+")
#: The parts of an expression, besides names, values and calls of sympy's classes.
_EXPRESSION: tuple[type[ast.AST], ...] = (ast.Expression, ast.keyword, ast.Load)
_EXPRESSION += (ast.UnaryOp, ast.BinOp, ast.Compare, ast.operator, ast.unaryop, ast.cmpop)


def checked_archive(path: Path) -> BytesIO:
    """Return a copy of the archive whose loading runs no code. Raises `ModelMissing` if there is none."""
    copy = BytesIO()
    try:
        with zipfile.ZipFile(path) as archive, zipfile.ZipFile(copy, "w") as checked:
            for member in archive.infolist():
                name, content = member.filename.partition("/")[2], archive.read(member)
                _check(name, content)
                checked.writestr(f"archive/{name}", content)
    except zipfile.BadZipFile as error:
        raise ModelMissing(f"{path.name} is not a file of torch.export") from error
    except (ValueError, LookupError, TypeError) as error:
        raise ModelMissing(f"{path.name} is refused: {error}") from error
    copy.seek(0)
    return copy


def _check(name: str, content: bytes) -> None:
    for pattern, check in _MEMBERS.items():
        if re.fullmatch(pattern, name):
            check(content)
            return
    raise ValueError(f"it has a member {name!r}, which torch.export.save does not write")


def _check_raw(content: bytes) -> None:
    """Accept any bytes: torch does not interpret them."""


def _check_payloads(content: bytes) -> None:
    """Refuse tensors that are not raw bytes, because torch would unpickle them."""
    for tensor, payload in json.loads(content)["config"].items():
        if payload["use_pickle"] or not re.fullmatch(r"(weight|tensor)_\d+", payload["path_name"]):
            raise ValueError(f"{tensor} is pickled, and could run code")


def _check_pickle(content: bytes) -> None:
    """Refuse a pickle that has more than tensors and plain values."""
    try:
        torch.load(BytesIO(content), weights_only=True, map_location="cpu")
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError("its sample inputs are no tensors, and could run code") from error


def _check_program(content: bytes) -> None:
    """Refuse texts that torch would look up or evaluate, unless they are those of a program."""
    for key, text in _strings(json.loads(content)):
        if key == "target" and not _OPERATOR.fullmatch(text):
            raise ValueError(f"it calls {text}, which is no operator of torch")
        if key == "expr_str" and not _is_expression(text):
            raise ValueError(f"{text} is not the expression of a size")
        if key in ("name", "as_name", "forward_arg_names") and not _IDENTIFIER.fullmatch(text):
            raise ValueError(f"{text} is not a name")


#: How each member is checked, by its name.
_MEMBERS: dict[str, Callable[[bytes], None]] = {
    r"models/model\.json": _check_program,
    r"data/weights/weight_\d+": _check_raw,
    r"data/constants/tensor_\d+": _check_raw,
    r"data/(weights/model_weights|constants/model_constants)_config\.json": _check_payloads,
    r"data/sample_inputs/model\.pt": _check_pickle,
    r"archive_(format|version)|byteorder|version|\.data/\w+|extra/.*": _check_raw,
}


def _strings(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield each text in a JSON document, with the key that it belongs to."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, list):
        for each in value:
            yield from _strings(each, key)
    elif isinstance(value, dict):
        for name, each in value.items():
            yield from _strings(each, name)


def _is_expression(text: str) -> bool:
    """Return whether the text only combines numbers, symbols and classes of sympy."""
    try:
        return all(map(_is_part, ast.walk(ast.parse(text, mode="eval"))))
    except SyntaxError:
        return False


def _is_part(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name)
    if isinstance(node, ast.Constant):
        return not isinstance(node.value, str) or node.value.isidentifier()
    if isinstance(node, ast.Name):
        found = getattr(torch_sympy, node.id, None) or getattr(sympy, node.id, None)
        return bool(_SYMBOL.fullmatch(node.id)) or (
            isinstance(found, type) and issubclass(found, sympy.Basic)
        )
    return isinstance(node, _EXPRESSION)
