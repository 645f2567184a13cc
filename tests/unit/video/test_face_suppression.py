import numpy as np
import pytest
from numpy.typing import NDArray

from worker.video.models.face_landmarks.suppression import find_faces

EYES = (0, 0, 1, 0)


def boxes(*corners: tuple[float, float, float, float]) -> NDArray[np.float32]:
    return np.array([(*box, *EYES) for box in corners], np.float32)


def scores(*values: float) -> NDArray[np.float32]:
    return np.array(values, np.float32)


def test_overlapping_boxes_become_their_weighted_mean() -> None:
    (face,) = find_faces(scores(0.6, 0.9), boxes((3, 0, 13, 10), (0, 0, 10, 10)), 0.5, 4)
    assert face.score == pytest.approx(0.9)
    assert face.box.tolist() == pytest.approx([1.2, 0, 11.2, 10])


def test_separate_boxes_are_faces_in_the_order_of_their_scores() -> None:
    places = boxes((0, 0, 10, 10), (20, 0, 30, 10), (40, 0, 50, 10))
    found = find_faces(scores(0.6, 0.9, 0.4), places, 0.5, 4)
    assert [face.box[0] for face in found] == [20, 0]
    assert [face.box[0] for face in find_faces(scores(0.6, 0.9, 0.4), places, 0.5, 1)] == [20]


def test_box_with_negative_size_is_dropped_and_empty_box_ends() -> None:
    found = find_faces(scores(0.9, 0.8), boxes((10, 0, 0, 10), (5, 5, 5, 5)), 0.5, 4)
    assert [face.box.tolist() for face in found] == [[5, 5, 5, 5]]


def test_later_face_replaces_earlier_one_with_nearly_the_same_square() -> None:
    """The flat box does not overlap enough with the tall one, but the squares around both do."""
    found = find_faces(scores(0.9, 0.8), boxes((0, 4, 10, 6), (4, 0, 6, 10)), 0.5, 4)
    assert [face.box.tolist() for face in found] == [[4, 0, 6, 10]]


def test_square_is_turned_as_the_eyes_are() -> None:
    (face,) = find_faces(scores(0.9), np.array([(0, 0, 10, 8, 2, 2, 5, 5)], np.float32), 0.5, 4)
    assert face.square == pytest.approx((5, 4, 15, np.pi / 4))
