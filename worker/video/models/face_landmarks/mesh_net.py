"""The network of MediaPipe's face landmarks, without attention.

`model` names its source and licence.
"""

from __future__ import annotations

from torch import Tensor, nn

from worker.video.models.face_landmarks.blaze_block import BlazeBlock
from worker.video.models.same_conv import SameConv

__all__ = ["LANDMARKS", "SIDE", "MeshNet"]

#: Width and height of the net's input, in pixels.
SIDE = 192
LANDMARKS = 468


class MeshNet(nn.Module):
    """A network that finds the landmarks of one upright face that fills the picture."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(SameConv(3, 16, 3, stride=2), nn.PReLU(16))
        self.trunk = nn.Sequential(
            _block(16, 16), _block(16, 16),
            _block(16, 32, stride=2), _block(32, 32), _block(32, 32),
            _block(32, 64, stride=2), _block(64, 64), _block(64, 64),
            _block(64, 128, stride=2), _block(128, 128), _block(128, 128),
            _block(128, 128, stride=2), _block(128, 128), _block(128, 128),
        )  # fmt: skip
        self.deep = nn.Sequential(_block(128, 128, stride=2), _block(128, 128))
        self.presence = _head(1, stride=2)
        self.mesh = _head(LANDMARKS * 3, stride=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return for `x` (N,3,192,192), RGB in 0..1, whether it is a face, and the face's landmarks.

        The first is (N,), a logit. The second is (N,468,3): x, y and z in pixels of the input.
        """
        x = self.trunk(self.stem(x))
        presence = self.presence(x)
        mesh = self.mesh(self.deep(x))
        return presence.reshape(-1), mesh.reshape(-1, LANDMARKS, 3)

    def file_order(self) -> dict[str, Tensor]:
        """Return the state dict in the order of the tflite graph, where the two heads' layers alternate."""
        state = self.state_dict()
        heads = [[name for name in state if name.startswith(head)] for head in ("presence.", "mesh.")]
        layers = list(dict.fromkeys(_layer(name) for name in heads[0]))
        alternating = sorted(heads[0] + heads[1], key=lambda name: layers.index(_layer(name)))
        body = [name for name in state if name not in alternating]
        return {name: state[name] for name in body + alternating}


def _layer(name: str) -> str:
    """Return the path of the layer inside its head: `mesh.0.pointwise.bias` is of the layer `0.pointwise`."""
    return name.partition(".")[2].rpartition(".")[0]


def _block(inputs: int, outputs: int, *, stride: int = 1) -> BlazeBlock:
    return BlazeBlock(inputs, outputs, nn.PReLU(outputs), stride=stride)


def _head(outputs: int, *, stride: int) -> nn.Sequential:
    """Return a head for the trunk's features, which it brings to 3x3 pixels and then to one."""
    return nn.Sequential(
        _block(128, 128, stride=stride),
        nn.Conv2d(128, 32, 1),
        nn.PReLU(32),
        _block(32, 32),
        nn.Conv2d(32, outputs, 3),
    )
