"""The program `lm_eval` (lm-evaluation-harness) with its model `local-completions`."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.clients.programs.checks import Checks, Target

checks = Checks("lm-eval")

#: Texts that a small model continues rightly, and how it does so.
TEXTS = {
    "Paris is the capital of France. Oslo is the capital of": " Norway",
    "One, two, three, four,": " five",
    "1, 2, 3, 4,": " 5",
    "The opposite of hot is": " cold",
}
NAME = "continued_texts"
#: A task over a local file. JSON is YAML.
TASK: dict[str, Any] = {
    "task": NAME,
    "dataset_path": "json",
    "test_split": "test",
    "doc_to_text": "{{text}}",
    "doc_to_target": "{{target}}",
    "output_type": "generate_until",
    "generation_kwargs": {"until": [",", ".", "\n"], "max_gen_toks": 4, "temperature": 0},
    "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
}


def evaluate(target: Target, batch: int) -> float:
    """Run the task with this many prompts a request, and return the share of right answers.

    Raises `AssertionError` with the program's log if it fails.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = folder / "texts.json"
        data.write_text(json.dumps([{"text": text, "target": end} for text, end in TEXTS.items()]))
        files = {"dataset_kwargs": {"data_files": {"test": str(data)}}}
        (folder / "task.yaml").write_text(json.dumps(TASK | files))
        address = f"base_url={target.base_url}/completions,model={target.model}"
        options = f"{address},tokenizer_backend=None,tokenized_requests=False,max_retries=1,num_concurrent=1"
        command = [sys.executable, "-m", "lm_eval", "--model", "local-completions", "--model_args", options]
        command += ["--tasks", NAME, "--include_path", name, "--output_path", name]
        command += ["--batch_size", str(batch)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=name)
        results = [*folder.rglob("results_*.json")]
        assert results, done.stderr[-2000:]
        return float(json.loads(results[0].read_text())["results"][NAME]["exact_match,none"])


@checks.feature("text completion")
def check_text_completion(target: Target) -> str:
    assert [evaluate(target, batch) for batch in (1, 4)] == [1, 1]
    return "tasks of the type `generate_until`; the others ask for the log-probabilities of a prompt"


if __name__ == "__main__":
    checks.main()
