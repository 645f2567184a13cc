"""Models in `.pt2` files: the sizes that they take, and the files that are refused."""

import io
import json
import pickle
import zipfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from worker.jobs.errors import ConfigurationError, InvalidOptions, ModelMissing
from worker.video.inference.model_loader import load_model_runner
from worker.video.model import Clip, Options
from worker.video.models.exported_program import ExportedModel
from worker.video.models.find import find_model

CPU = torch.device("cpu")
ANY = torch.export.Dim.DYNAMIC
HEIGHT, WIDTH = 48, 64
Members = dict[str, bytes]


class Invert(nn.Module):
    """Inverts the colours, and enlarges twofold. It has a weight and a constant."""

    offset: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(-1.0))
        self.register_buffer("offset", torch.tensor(1.0), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.interpolate(self.offset + self.scale * x, scale_factor=2.0, mode="nearest")


def export(path: Path, net: nn.Module, free: Sequence[int] = (), batch: int = 2) -> Path:
    """Write the net. The dimensions in `free` may have any size."""
    shapes = (dict.fromkeys(free, ANY),) if free else None
    example = (torch.zeros(batch, 3, HEIGHT, WIDTH),)
    torch.export.save(torch.export.export(net.eval(), example, dynamic_shapes=shapes), path)
    return path


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program for any size."""
    return export(tmp_path_factory.mktemp("pt2") / "any.pt2", Invert(), (0, 2, 3))


def clip(width: int, height: int) -> Clip:
    return Clip(width, height, Fraction(25), None)


def pictures(batch: int, height: int = HEIGHT, width: int = WIDTH) -> Tensor:
    return torch.randint(256, (batch, height, width, 3), dtype=torch.uint8)


def inverted(frames: Tensor) -> Tensor:
    return (255 - frames).repeat_interleave(2, 1).repeat_interleave(2, 2)


@torch.inference_mode()
def test_exported_model_takes_any_batch_and_size(path: Path) -> None:
    model = ExportedModel.load(path, CPU)
    for batch, width, height in ((1, 64, 48), (16, 30, 100)):
        output = model.output(clip(width, height), Options())
        assert (output.kind, output.width, output.height) == ("video", 2 * width, 2 * height)
        frames = pictures(batch, height, width)
        assert torch.equal(model.start(clip(width, height), Options())(frames, batch), inverted(frames))


@torch.inference_mode()
@pytest.mark.parametrize("batch", [1, 3])
def test_exported_model_of_fixed_batch_gets_groups_of_frames(tmp_path: Path, batch: int) -> None:
    model = ExportedModel.load(export(tmp_path / "net.pt2", Invert(), batch=batch), CPU)
    frames = pictures(7)
    assert torch.equal(model(frames, 7), inverted(frames))


def test_exported_model_of_fixed_size_refuses_other_clips_and_can_be_served(tmp_path: Path) -> None:
    found = find_model(str(export(tmp_path / "net.pt2", Invert(), (0,))), "net")
    runner = load_model_runner(found, "cpu", 4)
    with pytest.raises(InvalidOptions, match=f"^the model takes frames of {WIDTH}x{HEIGHT} pixels only$"):
        runner.prepare(clip(HEIGHT, WIDTH), Options(), runner.buffers())
    model_pass, window = runner.prepare(clip(WIDTH, HEIGHT), Options(), runner.buffers())
    assert (model_pass.output.width, window.size) == (2 * WIDTH, 4)


class Halves(nn.Module):
    """Takes even widths only."""

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:3], -1, 2).flatten(3)


def test_exported_model_says_which_sizes_it_does_not_take(tmp_path: Path) -> None:
    model = ExportedModel.load(export(tmp_path / "net.pt2", Halves(), (0, 2, 3)), CPU)
    assert model.output(clip(30, 31), Options()).width == 30
    with pytest.raises(
        InvalidOptions, match=r"^the model does not take frames of 31x30 pixels \(Guard failed"
    ):
        model.output(clip(31, 30), Options())


@torch.inference_mode()
def test_exported_model_computes_in_its_own_type(tmp_path: Path) -> None:
    program = torch.export.export(
        Invert().half(), (torch.zeros(2, 3, 8, 8).half(),), dynamic_shapes=({0: ANY},)
    )
    torch.export.save(program, tmp_path / "half.pt2")
    frames = pictures(4, 8, 8)
    results = ExportedModel.load(tmp_path / "half.pt2", CPU)(frames, 4)
    assert (results.int() - inverted(frames).int()).abs().max() <= 1


@pytest.mark.parametrize(
    ("net", "shape", "message"),
    [
        (nn.Flatten(), (2, 3, 8, 8), "the exported program does not return one tensor"),
        (nn.Identity(), (2, 1, 8, 8), r"net.pt2 does not take one tensor \(B,3,H,W\)"),
        (nn.Identity(), (2, 8), r"net.pt2 does not take one tensor \(B,3,H,W\)"),
    ],
)
def test_exported_model_of_another_form_is_one_sentence_at_start(
    tmp_path: Path, net: nn.Module, shape: tuple[int, ...], message: str
) -> None:
    shapes = (dict.fromkeys((0, 2, 3), ANY),) if len(shape) == 4 else None
    program = torch.export.export(net, (torch.zeros(shape),), dynamic_shapes=shapes)
    torch.export.save(program, tmp_path / "net.pt2")
    with pytest.raises((ConfigurationError, ModelMissing), match=message):
        load_model_runner(find_model(str(tmp_path / "net.pt2"), "net"), "cpu", 4)


def pickle_of(protocol: int, argument: str) -> bytes:
    """Return a pickle that makes a folder when it is loaded."""

    class Evil:
        def __reduce__(self) -> Any:
            import os

            return os.mkdir, (argument,)

    return pickle.dumps(Evil(), protocol)


def saved(argument: str) -> bytes:
    """Return a file of `torch.save` that makes a folder when it is loaded."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickle_of(2, argument))
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")
    return file.getvalue()


def edited(members: Members, name: str, edit: Callable[[Any], None]) -> None:
    document = json.loads(members[name])
    edit(document)
    members[name] = json.dumps(document).encode()


WEIGHTS, CONSTANTS = "data/weights/model_weights", "data/constants/model_constants"
PROGRAM = "models/model.json"


def pickled_inputs(members: Members, argument: str) -> None:
    members["data/sample_inputs/model.pt"] = saved(argument)


def pickled_weight(protocol: int) -> Callable[[Members, str], None]:
    def change(members: Members, argument: str) -> None:
        members["data/weights/weight_0"] = pickle_of(protocol, argument)
        edited(members, f"{WEIGHTS}_config.json", lambda it: it["config"]["scale"].update(use_pickle=True))

    return change


def pickled_constant(members: Members, argument: str) -> None:
    members["data/constants/opaque_obj_0"] = pickle_of(0, argument)
    payload = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True, "tensor_meta": None}
    edited(members, f"{CONSTANTS}_config.json", lambda it: it["config"].update(offset=payload))


def library(members: Members, argument: str) -> None:
    members["data/aotinductor/model/wrapper.so"] = b"\x7fELF"


def old_format(members: Members, argument: str) -> None:
    members.clear()
    members |= {"version": b"8.14", "serialized_state_dict.pt": saved(argument)}


def function(members: Members, argument: str) -> None:
    def edit(document: Any) -> None:
        node = document["graph_module"]["graph"]["nodes"][0]
        arguments = [{"name": "", "arg": {"as_string": argument}, "kind": 1}]
        node |= {"target": "torch.os.mkdir", "inputs": arguments}

    edited(members, PROGRAM, edit)


def expression(members: Members, argument: str) -> None:
    def edit(document: Any) -> None:
        sizes = document["graph_module"]["graph"]["tensor_values"]["x"]["sizes"]
        sizes[0]["as_expr"]["expr_str"] = f"__import__('os').mkdir('{argument}') or 1"

    edited(members, PROGRAM, edit)


def without_program(members: Members, argument: str) -> None:
    del members[PROGRAM]


ATTACKS = [pickled_inputs, pickled_weight(0), pickled_weight(4), pickled_constant, expression]


def changed(path: Path, target: Path, change: Callable[[Members, str], None]) -> Path:
    """Write the archive at `path` with a change that makes the folder `ran` beside `target`."""
    with zipfile.ZipFile(path) as archive:
        members = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    change(members, str(target.with_name("ran")))
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"net/{name}", content)
    return target


@pytest.mark.parametrize("attack", [*ATTACKS, function, library, old_format])
def test_exported_model_that_could_run_code_is_refused_before_it_is_loaded(
    path: Path, tmp_path: Path, attack: Callable[[Members, str], None]
) -> None:
    evil = changed(path, tmp_path / "evil.pt2", attack)
    with pytest.raises(ModelMissing, match=r"^evil\.pt2 is refused: ") as raised:
        ExportedModel.load(evil, CPU)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("attack", ATTACKS)
def test_exported_model_attacks_run_code_if_torch_loads_them(
    path: Path, tmp_path: Path, attack: Callable[[Members, str], None]
) -> None:
    """Otherwise the test above could not fail."""
    evil = changed(path, tmp_path / "evil.pt2", attack)
    with suppress(Exception):
        torch.export.load(evil).module()(torch.zeros(2, 3, HEIGHT, WIDTH))
    assert (tmp_path / "ran").exists()


def test_exported_model_file_of_another_format_is_one_sentence(path: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.pt2"
    for content, message in (
        (b"not a zip", "^wrong.pt2 is not a file of torch.export$"),
        (path.read_bytes()[:-100], "^wrong.pt2 is refused: it has a member 'data.pkl', which"),
    ):
        wrong.write_bytes(content)
        with pytest.raises(ModelMissing, match=message):
            ExportedModel.load(wrong, CPU)
    empty = changed(path, wrong, without_program)
    with pytest.raises(ModelMissing, match=r"^torch cannot load wrong\.pt2 "):
        ExportedModel.load(empty, CPU)
