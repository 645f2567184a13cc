"""Line charts as SVG, without a library: columns of panels."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["Column", "Line", "Panel", "draw"]

WIDTH, PANEL, TOP, GAP = 860, 220, 100, 64
LEFT, RIGHT = 76, 200
#: The space between two columns, and the width of a column of many.
BETWEEN, NARROWEST = 20, 170
#: The width of a number below a panel.
TICK_WIDTH = 48
#: A function from a value to its height in a panel, 0 to 1, and the values of the ticks.
Scale = tuple[Callable[[float], float], list[float]]
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


@dataclass(frozen=True, slots=True)
class Column:
    """Panels one above the other, under the lines of a heading.

    All columns of a chart have panels of the same titles and lines. Panels side by side have one scale.
    """

    heading: Sequence[str]
    panels: Sequence[Panel]


@dataclass(frozen=True, slots=True)
class _Frame:
    """The place of a panel in the picture."""

    left: float
    top: float
    width: float

    @property
    def right(self) -> float:
        return self.left + self.width

    @property
    def bottom(self) -> float:
        return self.top + PANEL


def draw(title: str, x_title: str, columns: Sequence[Column]) -> str:
    """Return the chart as the text of an SVG file."""
    rows = list(zip(*(column.panels for column in columns), strict=True))
    lefts, each = _places(len(columns))
    width, height = lefts[-1] + each + RIGHT, TOP + len(rows) * (PANEL + GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" width="{width:.0f}"'
        f' height="{height}" font-family="sans-serif" font-size="12" fill="{INK}">',
        f'<rect width="{width:.0f}" height="{height}" fill="#fff"/>',
        _text(LEFT, 26, title, "start", 'font-size="15" font-weight="bold"'),
    ]
    for left, column in zip(lefts, columns, strict=False):
        parts += [_text(left, 48 + 16 * n, line, "start") for n, line in enumerate(column.heading) if line]
    for number, row in enumerate(rows):
        parts += _row(row, [_Frame(left, TOP + number * (PANEL + GAP), each) for left in lefts], x_title)
    return "\n".join([*parts, "</svg>", ""])


def _places(columns: int) -> tuple[Sequence[float], float]:
    """Return where each column begins, and the width of each. One column fills `WIDTH`."""
    count = max(1, columns)
    each = max(NARROWEST, (WIDTH - LEFT - RIGHT - (count - 1) * BETWEEN) / count)
    return [LEFT + n * (each + BETWEEN) for n in range(count)], each


def _row(panels: Sequence[Panel], frames: Sequence[_Frame], x_title: str) -> list[str]:
    """Return the panels of a row, with their scale at its left and the names of the lines at its right."""
    scale = _scale([value for panel in panels for line in panel.lines for value in line.values])
    first, last = frames[0], frames[-1]
    parts = [_text(first.left, first.top - 10, panels[0].title, "start", 'font-weight="bold"')]
    for tick in scale[1]:
        y = first.bottom - PANEL * scale[0](tick)
        parts.append(_text(first.left - 8, y + 4, f"{tick:g}", "end"))
    for panel, frame in zip(panels, frames, strict=True):
        parts += _panel(panel, frame, scale, x_title)
    for n, line in enumerate(panels[0].lines):
        parts += _legend(line, n, last.right + 16, last.top + 10 + 20 * n)
    return parts


def _panel(panel: Panel, frame: _Frame, scale: Scale, x_title: str) -> list[str]:
    height_of, ticks = scale
    count = max(len(line.values) for line in panel.lines)

    def x(index: int) -> float:
        return frame.left + 12 + (frame.width - 24) * index / max(count - 1, 1)

    def y(value: float) -> float:
        return frame.bottom - PANEL * height_of(value)

    parts = [
        f'<path d="M{frame.left:.1f} {y(tick):.1f}H{frame.right:.1f}" stroke="{FAINT}"/>' for tick in ticks
    ]
    marked = range(0, count, max(1, count * TICK_WIDTH // int(frame.width)))
    parts += [_text(x(index), frame.bottom + 16, str(index), "middle") for index in marked]
    parts.append(_text((frame.left + frame.right) / 2, frame.bottom + 32, x_title, "middle"))
    for n, line in enumerate(panel.lines):
        parts += _line(line, n, [(x(index), y(value)) for index, value in enumerate(line.values)])
    return parts


def _scale(values: Sequence[float]) -> Scale:
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
