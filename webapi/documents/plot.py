"""Line charts as SVG, without a library: panels one above the other, over the same batches."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["Line", "Panel", "draw"]

WIDTH, PANEL, TOP, GAP = 860, 220, 56, 64
LEFT, RIGHT = 76, 200
INK, FAINT = "#333", "#ddd"
COLOURS = ("#0068b5", "#d1495b", "#2a9d8f", "#e9a03b")
#: A line with more values has no markers. A marker's tooltip shows its value.
MAX_MARKERS = 300
#: A panel whose largest value exceeds the smallest by more than this factor has a logarithmic scale.
LINEAR_UP_TO = 20.0


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the chart, with one value for each batch."""

    label: str
    values: Sequence[float]


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel of lines with the same unit.

    Line N has the same colour in every panel. All lines but the first are dashed, so that lines which overlap
    can be told apart.
    """

    title: str
    lines: Sequence[Line]


def draw(title: str, x_title: str, panels: Sequence[Panel]) -> str:
    """Return the chart as the text of an SVG file."""
    height = TOP + len(panels) * (PANEL + GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}"'
        f' height="{height}" font-family="sans-serif" font-size="12" fill="{INK}">',
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        _text(LEFT, 26, title, "start", 'font-size="15" font-weight="bold"'),
    ]
    for number, panel in enumerate(panels):
        parts += _panel(panel, TOP + number * (PANEL + GAP), x_title)
    return "\n".join([*parts, "</svg>", ""])


def _panel(panel: Panel, top: float, x_title: str) -> list[str]:
    height_of, ticks = _scale([value for line in panel.lines for value in line.values])
    count = max(len(line.values) for line in panel.lines)
    right, bottom = WIDTH - RIGHT, top + PANEL

    def x(index: int) -> float:
        return LEFT + 12 + (right - LEFT - 24) * index / max(count - 1, 1)

    def y(value: float) -> float:
        return bottom - PANEL * height_of(value)

    parts = [_text(LEFT, top - 10, panel.title, "start", 'font-weight="bold"')]
    for tick in ticks:
        parts.append(f'<path d="M{LEFT} {y(tick):.1f}H{right}" stroke="{FAINT}"/>')
        parts.append(_text(LEFT - 8, y(tick) + 4, f"{tick:g}", "end"))
    marked = range(0, count, max(1, count // 12))
    parts += [_text(x(index), bottom + 16, str(index), "middle") for index in marked]
    parts.append(_text((LEFT + right) / 2, bottom + 32, x_title, "middle"))
    for n, line in enumerate(panel.lines):
        points = [(x(index), y(value)) for index, value in enumerate(line.values)]
        parts += [*_line(line, n, points), *_legend(line, n, right + 16, top + 10 + 20 * n)]
    return parts


def _scale(values: Sequence[float]) -> tuple[Callable[[float], float], list[float]]:
    """Return a panel's scale: a function from a value to its height, 0 to 1, and the values of the ticks."""
    low, high = min(values), max(values) or 1.0
    if low > 0 and high / low > LINEAR_UP_TO:
        first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
        decades = [10.0**power for power in range(first, last + 1)]
        return lambda value: (math.log10(value) - first) / (last - first), decades
    power = 10.0 ** math.floor(math.log10(high / 4))
    step = next(step * power for step in (1, 2, 5, 10) if step * power >= high / 4)
    ticks = [step * n for n in range(math.ceil(high / step) + 1)]
    return lambda value: value / ticks[-1], ticks


def _line(line: Line, number: int, points: Sequence[tuple[float, float]]) -> list[str]:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    parts = [f'<polyline points="{path}" fill="none" {_style(number)}/>']
    for (x, y), value in zip(points, line.values, strict=True) if len(points) <= MAX_MARKERS else ():
        tooltip = f"<title>{escape(line.label)}: {value:g}</title>"
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{_colour(number)}">{tooltip}</circle>')
    return parts


def _legend(line: Line, number: int, x: float, y: float) -> list[str]:
    key = f'<path d="M{x} {y}h24" {_style(number)}/>'
    return [key, _text(x + 30, y + 4, line.label, "start")]


def _style(number: int) -> str:
    return f'stroke="{_colour(number)}" stroke-width="2"' + ' stroke-dasharray="6 4"' * (number > 0)


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


def _text(x: float, y: float, text: str, anchor: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {more}>{escape(text)}</text>'
