from webapi.native.zero_series import zero_fields
from worker.jobs.metrics.catalog import METRICS
from worker.jobs.metrics.metric import Gauge
from worker.jobs.metrics.series import grouped

CHAT, VIDEO = "chat.Llama 3.1", "video.matte"


def test_series_exist_before_the_first_event() -> None:
    found = grouped(zero_fields([CHAT, VIDEO]))
    assert {value for series in found.values() for value in series.values()} == {0}
    stored = {name for name, metric in METRICS.items() if not isinstance(metric, Gauge)}
    assert found.keys() == stored - {"stoker_http_request_seconds"}  # its routes are not known
    assert ("Llama 3.1", "0", "stop") in found["vllm:request_success_total"]
    assert (CHAT, "worker_lost") in found["stoker_requeues_total"]
    assert ("sum", VIDEO, "drain") in found["stoker_resume_gap_seconds"]


def test_series_of_videos_exist_for_queues_of_videos_only() -> None:
    found = grouped(zero_fields([CHAT, VIDEO]))
    assert found["stoker_video_frames_total"].keys() == {(VIDEO,)}
    assert {labels[-2] for labels in found["vllm:e2e_request_latency_seconds"]} == {"Llama 3.1"}
