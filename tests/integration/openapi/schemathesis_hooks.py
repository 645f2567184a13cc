"""Gives schemathesis samples of clips and images, which it cannot generate."""

import os
from pathlib import Path

import schemathesis
from hypothesis import strategies

for name in ("video", "image"):
    sample = Path(os.environ[f"SCHEMATHESIS_{name.upper()}"]).read_bytes()
    schemathesis.openapi.media_type(f"{name}/*", strategies.just(sample))
