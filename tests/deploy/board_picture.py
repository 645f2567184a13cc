"""Make the picture of the board: `python -m tests.deploy.board_picture`, as `make board-picture` does.

Grafana does not draw it. A page draws the panels of the board's file at their places with uPlot, which is
also the library of Grafana's panels. Their values are a real Prometheus' answers. Look at it afterwards.
"""

import json
import re
import tempfile
import threading
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from playwright.sync_api import sync_playwright

from tests.deploy.observed import Observed, observed_stack
from tests.support.deploy import board_panels, panel_queries
from tests.support.docs import ROOT
from tests.support.stack import eventually

__all__ = ["main"]

IMAGE = ROOT / "docs" / "images" / "board.png"
PAGE = Path(__file__).with_name("board_picture.html")
UPLOT = Path(__file__).with_name("node_modules") / "uplot" / "dist"
MOST_BYTES = 300_000
#: The expressions as Grafana would ask for them if Prometheus scraped every 5 s.
VARIABLES = {"$__rate_interval": "20s", "$model": ".*"}
STEP_S = 2
#: Seconds of load before the first kill, between the kills, and after the last one.
QUIET_S, KILLS, CHATS = 40, 2, 3


def main() -> None:
    """Run the stack under load, kill workers, and write the picture."""
    with tempfile.TemporaryDirectory() as folder, observed_stack(Path(folder)) as observed:
        run_load(observed)
        panels = [drawn(panel, observed) for panel in board_panels()]
        page = Path(folder) / "board.html"
        page.write_text(filled(panels))
        draw(page)
    assert IMAGE.stat().st_size < MOST_BYTES, f"{IMAGE} has {IMAGE.stat().st_size} bytes"


def run_load(observed: Observed) -> None:
    """Run chats and videos, and kill a chat worker now and then."""
    load = threading.Thread(target=observed.load, args=[CHATS])
    load.start()
    try:
        for _ in range(KILLS):
            observed.done.wait(QUIET_S)
            observed.kill_busy_worker()
            eventually(lambda: len(ready(observed)) == len(observed.cluster.workers), "all workers")
        observed.done.wait(QUIET_S)
    finally:
        observed.done.set()
        load.join()


def ready(observed: Observed) -> list[str]:
    """Return the names of the workers that are ready."""
    return [card.name for card in observed.cluster.cards() if card.state == "ready"]


def drawn(panel: dict[str, Any], observed: Observed) -> dict[str, Any]:
    """Return what the page draws: the title, the place, the unit, and the series with their legends."""
    series = [
        {"legend": legend_of(template, found.labels), "values": [*found.values.items()]}
        for template, expression in panel_queries(panel, VARIABLES)
        for found in observed.prometheus.series(expression, STEP_S)
    ]
    defaults = panel.get("fieldConfig", {}).get("defaults", {})
    return {
        "title": panel["title"],
        "row": panel["type"] == "row",
        "place": panel["gridPos"],
        "unit": defaults.get("unit", ""),
        "max": defaults.get("max"),
        "stacked": "stacking" in defaults.get("custom", {}),
        "series": series,
    }


def legend_of(template: str, labels: dict[str, str]) -> str:
    """Return the legend as Grafana makes it: each `{{label}}` is replaced by its value."""
    text = re.sub(r"{{(\w+)}}", lambda found: labels.get(found[1], ""), template)
    return text.strip() or "value"


def filled(panels: list[dict[str, Any]]) -> str:
    """Return the page with the data, and with uPlot in it."""
    page = PAGE.read_text()
    for mark, text in (
        ("/* uPlot.css */", (UPLOT / "uPlot.min.css").read_text()),
        ("/* uPlot.js */", (UPLOT / "uPlot.iife.min.js").read_text()),
        ("/* panels */", f"const panels = {json.dumps(panels)};"),
    ):
        page = page.replace(mark, text)
    return page


def draw(page: Path) -> None:
    """Take the picture of the page."""
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1500, "height": 800})
        tab.goto(page.as_uri())
        tab.screenshot(path=IMAGE, full_page=True)
        browser.close()
    IMAGE.write_bytes(with_palette(IMAGE))


def with_palette(picture: Path) -> bytes:
    """Return the PNG file with 256 colours, which is less than half as large."""
    with av.open(str(picture)) as container:
        frame = next(container.decode(video=0))
    frame.pts, frame.time_base = 0, Fraction(1)
    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
    )
    split, palette = graph.add("split"), graph.add("palettegen")
    use, sink = graph.add("paletteuse", "dither=none"), graph.add("buffersink")
    source.link_to(split)
    split.link_to(use, 0, 0)
    split.link_to(palette, 1, 0)
    palette.link_to(use, 0, 1)
    use.link_to(sink)
    graph.configure()
    graph.vpush(frame)
    graph.vpush(None)
    encoder = av.VideoCodecContext.create("png", "w")
    encoder.width, encoder.height, encoder.pix_fmt = frame.width, frame.height, "pal8"
    encoder.time_base, encoder.options = Fraction(1), {"pred": "none", "compression_level": "9"}
    return b"".join(bytes(packet) for packet in [*encoder.encode(graph.vpull()), *encoder.encode(None)])


if __name__ == "__main__":
    main()
