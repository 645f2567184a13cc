"""Charts: scales, markers with tooltips, and styles."""

from itertools import pairwise
from xml.etree import ElementTree

import pytest

from webapi.documents.plot import Column, Line, Panel, draw

SVG = "{http://www.w3.org/2000/svg}"


def circles(*values: list[float]) -> list[tuple[float, float]]:
    """Return the positions (x, y) of the markers of a panel with these lines."""
    lines = [Line(f"line {n} <&>", each) for n, each in enumerate(values)]
    picture = ElementTree.fromstring(draw("a & b", "batch", [Column([], [Panel("ms", lines)])]))
    return [(float(c.attrib["cx"]), float(c.attrib["cy"])) for c in picture.iter(f"{SVG}circle")]


def test_plot_linear_scale_starts_at_zero() -> None:
    spots = circles([0, 10, 20, 40])
    steps = [right[0] - left[0] for left, right in pairwise(spots)]
    assert steps == pytest.approx([steps[0]] * 3, abs=0.2)
    bottom, ten, twenty, forty = (y for _, y in spots)
    assert bottom - forty == pytest.approx(2 * (bottom - twenty), abs=0.2)
    assert bottom - forty == pytest.approx(4 * (bottom - ten), abs=0.2)


def test_plot_wide_range_has_a_logarithmic_scale() -> None:
    """Equal factors have equal distances, so values much smaller than the largest stay distinguishable."""
    one, ten, thousand = (y for _, y in circles([1.0, 10.0, 1000.0]))
    assert one - thousand == pytest.approx(3 * (one - ten), abs=0.2)


def test_plot_lines_have_tooltips_names_and_styles() -> None:
    lines = [Line("padded <&>", [3, 4, 5]), Line("short", [3, 4])]
    column = Column(["w", "cpu"], [Panel("ms", lines), Panel("MiB", lines)])
    picture = ElementTree.fromstring(draw("title", "batch", [column]))
    tooltips = [title.text for title in picture.iter(f"{SVG}title")]
    assert tooltips == ["padded <&>: 3", "padded <&>: 4", "padded <&>: 5", "short: 3", "short: 4"] * 2
    styles = [
        (line.attrib["stroke"], line.get("stroke-dasharray")) for line in picture.iter(f"{SVG}polyline")
    ]
    assert styles[0] == styles[2]
    assert len(set(styles)) == 2
    texts = [text.text for text in picture.iter(f"{SVG}text")]
    assert {"title", "w", "cpu", "ms", "MiB", "batch", "padded <&>", "short"} <= set(texts)


def test_plot_columns_are_side_by_side_on_one_scale() -> None:
    columns = [
        Column([name], [Panel("MiB", [Line("reserved", values)])])
        for name, values in {"gpu 0": [10.0, 20.0, 20.0], "gpu 1": [20.0]}.items()
    ]
    picture = ElementTree.fromstring(draw("title", "batch", columns))
    spots = [(float(c.attrib["cx"]), float(c.attrib["cy"])) for c in picture.iter(f"{SVG}circle")]
    assert spots[0][0] < spots[1][0] < spots[2][0] < spots[3][0]
    assert spots[1][1] == spots[2][1] == spots[3][1] < spots[0][1]
    assert max(x for x, _ in spots) < float(picture.attrib["width"])
    texts = [text.text for text in picture.iter(f"{SVG}text")]
    assert [texts.count(text) for text in ("gpu 0", "gpu 1", "MiB", "reserved")] == [1] * 4


def test_plot_draws_zeros() -> None:
    assert len(circles([0.0], [0.0])) == 2


def test_plot_long_line_has_no_markers() -> None:
    picture = draw("title", "batch", [Column([], [Panel("ms", [Line("long", [1.0, 2.0] * 1000)])])])
    [line] = ElementTree.fromstring(picture).iter(f"{SVG}polyline")
    assert len(line.attrib["points"].split()) == 2000
    assert "<circle" not in picture
