"""The memory report of a job: its batches, the devices that have run them, and the chart."""

import json
from xml.etree import ElementTree

from webapi.documents.memory import MemoryDocument
from webapi.documents.memory_plot import memory_plot
from worker.jobs.events import Batch, Event, LoggedEvent, Requeued, Started

SVG = "{http://www.w3.org/2000/svg}"


def batch(index: int, worker: str | None = None, device: str | None = None, grow: int = 0) -> Batch:
    """Return a batch that begins with 10 reserved bytes and needs `grow` more."""
    before, after = ({"allocated": 1, "reserved": reserved} for reserved in (10, 10 + grow))
    peaks = {"peak_allocated": 5 + index, "peak_reserved": 10 + grow}
    memory = {"source": "cuda", "before": before, "after": after, **peaks}
    return Batch(index, 15, 1, 0.5, memory, None, worker, device)


def logged(*attempts: list[Event]) -> list[LoggedEvent]:
    """Return the events of the attempts, as the log has them."""
    log: list[LoggedEvent] = []
    for attempt, events in enumerate(attempts, 1):
        for event in events:
            envelope = {"n": len(log) + 1, "type": event.type, "job": "j", "attempt": attempt}
            log.append(LoggedEvent.from_json(json.dumps(envelope | json.loads(event.fields()))))
    return log


def test_memory_report_takes_worker_of_older_batches_from_start_of_attempt() -> None:
    attempts: list[list[Event]] = [
        [Started("w1", "GPU-a"), batch(0), batch(1), Requeued("worker_lost")],
        [Started("w2", "GPU-b"), batch(1)],
    ]
    report = MemoryDocument.from_events("j", logged(*attempts))
    places = [(each.attempt, each.index, each.worker, each.device) for each in report.batches]
    assert places == [(1, 0, "w1", "GPU-a"), (1, 1, "w1", "GPU-a"), (2, 1, "w2", "GPU-b")]
    marks = [(each.first, each.last) for each in report.batches]
    assert marks == [(True, False), (False, True), (True, True)]


def test_memory_report_judges_and_sums_up_each_device() -> None:
    """The first batch of a helper grows its memory, and so does a later one of another helper."""
    events: list[Event] = [
        Started("w1", "GPU-a"),
        batch(0, "w1", "GPU-a"),
        batch(4, "w2", "GPU-b", grow=7),
        batch(1, "w1", "GPU-a"),
        batch(8, "w3", "GPU-c"),
        batch(5, "w2", "GPU-b"),
        batch(9, "w3", "GPU-c", grow=7),
    ]
    report = MemoryDocument.from_events("j", logged(events))
    marks = [(each.worker, each.index, each.first, each.last, each.grew) for each in report.batches]
    assert marks == [
        ("w1", 0, True, False, False),
        ("w2", 4, True, False, False),
        ("w1", 1, False, True, False),
        ("w3", 8, True, False, False),
        ("w2", 5, False, True, False),
        ("w3", 9, False, True, True),
    ]
    one, _, three = report.devices
    assert one.model_dump() == {
        "worker": "w1",
        "device": "GPU-a",
        "source": "cuda",
        "batches": 2,
        "frames": 30,
        "allocated": 1,
        "reserved": 10,
        "peak_allocated": 6,
        "peak_reserved": 10,
        "grew": False,
    }
    assert [(each.worker, each.reserved, each.peak_reserved, each.grew) for each in report.devices] == [
        ("w1", 10, 10, False),
        ("w2", 10, 17, False),
        ("w3", 17, 17, True),
    ]
    assert three.peak_allocated == 14


def test_memory_plot_has_devices_side_by_side() -> None:
    uuid = "GPU-6f1c2f9e-0c5e-4a7b-9d3d-0a6a1c1d2b3c"
    events: list[Event] = [batch(0, "w1", uuid), batch(1, "w2", "GPU-b"), batch(2, "w1", uuid)]
    picture = ElementTree.fromstring(memory_plot(MemoryDocument.from_events("j", logged(events))))
    texts = {text.text: float(text.attrib["x"]) for text in picture.iter(f"{SVG}text")}
    assert texts["w1"] == texts["GPU-6f1c2f9e"] < texts["w2"] == texts["GPU-b"]
    reserved = [
        float(circle.attrib["cx"])
        for circle in picture.iter(f"{SVG}circle")
        if (circle[0].text or "").startswith("reserved")
    ]
    assert reserved[0] < reserved[1] < texts["w2"] < reserved[2]
