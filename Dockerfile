# Targets: the API without torch (`web`), workers on the CPU (`worker-cpu`), workers on GPUs (`worker-cuda`), and
# Celery's monitor (`flower`). See docs/deployment.md.

# The base image. It needs apt-get, and Python 3.11 or newer with venv; for GPUs also Python's headers. A digest, as in
# `python:3.11-slim-bookworm@sha256:…`, would fix its content.
ARG BASE=python:3.11-slim-bookworm
# An image that holds wheels, such as your own build of torch. pip prefers them to those of its index.
ARG WHEELS=scratch

FROM ${WHEELS} AS wheels

FROM ${BASE} AS base
RUN apt-get update \
    && apt-get install --yes --no-install-recommends tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --home-dir /var/lib/stoker --create-home --shell /usr/sbin/nologin stoker
# A new volume gets the owner and the mode of the folder on which it is mounted.
RUN cd /var/lib/stoker \
    && install --directory --owner stoker --group stoker models media staging slots locks keys .cache \
    && install --directory --owner stoker --group stoker --mode 750 secrets
ENV PATH=/opt/stoker/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    STOKER_HOME=/var/lib/stoker
# tini passes signals to the worker only. The worker drains, and the processes it started end with it.
ENTRYPOINT ["tini", "--"]

# The dependencies are installed before Stoker itself, so a change of Stoker makes a small layer only. Their versions
# and hashes are those of requirements/*.lock. Torch is not locked, because each machine has another build of it.
FROM base AS build
ARG PIP_EXTRA_INDEX_URL=
# More packages for all images, such as s3fs for a media store with s3://.
ARG PACKAGES=
WORKDIR /src
COPY requirements requirements
COPY pyproject.toml constraints.txt ./
RUN touch LICENSE README.md && python3 -m venv /opt/stoker
ENV LOCKED="pip install --no-deps --require-hashes --requirement"

FROM build AS web-needs
RUN --mount=type=cache,target=/root/.cache/pip --mount=from=wheels,target=/wheels \
    $LOCKED requirements/web.lock \
    && if test -n "$PACKAGES"; then pip install --find-links /wheels --constraint constraints.txt $PACKAGES; fi

FROM build AS cpu-needs
RUN --mount=type=cache,target=/root/.cache/pip --mount=from=wheels,target=/wheels \
    $LOCKED requirements/worker.lock \
    && pip install --find-links /wheels --constraint constraints.txt torch ${PACKAGES}

# PyPI's torch supports CUDA. Without VLLM, the version of constraints.txt is installed, with which Stoker is tested.
# VLLM=vllm installs vLLM and the packages it needs, which are not those of the lock. VLLM=torch==2.11.0 would install
# a torch for an older driver.
FROM build AS cuda-needs
ARG VLLM=
RUN --mount=type=cache,target=/root/.cache/pip --mount=from=wheels,target=/wheels \
    $LOCKED requirements/worker.lock \
    && pip install --find-links /wheels --no-build-isolation \
       '.[worker]' ${PACKAGES} ${VLLM:---constraint constraints.txt}

FROM build AS package
COPY LICENSE README.md ./
COPY webapi webapi
COPY worker worker
RUN --mount=type=cache,target=/root/.cache/pip \
    $LOCKED requirements/build.lock && pip wheel --no-deps --no-build-isolation --wheel-dir /package .

FROM base AS web
COPY --from=web-needs /opt/stoker /opt/stoker
RUN --mount=from=package,source=/package,target=/package \
    pip install --no-cache-dir --no-deps --force-reinstall /package/*.whl
USER stoker
WORKDIR /var/lib/stoker
ENV STOKER_HOST=0.0.0.0
EXPOSE 8000
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s CMD ["python3", "-c", \
    "import urllib.request as r; r.build_opener(r.ProxyHandler({})).open('http://127.0.0.1:8000/livez', timeout=4)"]
CMD ["stoker", "web"]
ARG REVISION=
LABEL org.opencontainers.image.title="stoker web" org.opencontainers.image.revision=${REVISION}

FROM web-needs AS flower-needs
RUN --mount=type=cache,target=/root/.cache/pip $LOCKED requirements/flower.lock

FROM base AS flower
COPY --from=flower-needs /opt/stoker /opt/stoker
RUN --mount=from=package,source=/package,target=/package \
    pip install --no-cache-dir --no-deps --force-reinstall /package/*.whl
USER stoker
WORKDIR /var/lib/stoker
EXPOSE 5555
# Without the file there would be no login, so it must exist.
CMD ["sh", "-ec", "password=$(cat secrets/flower_password); \
    FLOWER_BASIC_AUTH=stoker:$password exec celery -A worker.jobs.broker flower --port=5555"]

FROM base AS worker-cpu
COPY --from=cpu-needs /opt/stoker /opt/stoker
RUN --mount=from=package,source=/package,target=/package \
    pip install --no-cache-dir --no-deps --force-reinstall /package/*.whl
USER stoker
WORKDIR /var/lib/stoker
ENV STOKER_DEVICES=cpu
# A worker is healthy while it is warm or draining. Loading a model may take minutes.
HEALTHCHECK --interval=30s --timeout=15s --start-period=300s CMD ["stoker", "worker", "health"]
CMD ["stoker", "worker", "chat"]
ARG REVISION=
LABEL org.opencontainers.image.title="stoker worker-cpu" org.opencontainers.image.revision=${REVISION}

FROM base AS worker-cuda
# Triton and torch's compiler need a C++ compiler to build the code that launches kernels.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*
COPY --from=cuda-needs /opt/stoker /opt/stoker
RUN --mount=from=package,source=/package,target=/package \
    pip install --no-cache-dir --no-deps --force-reinstall /package/*.whl
USER stoker
WORKDIR /var/lib/stoker
# vLLM's cache folder, a volume that replicas share, keeps compiled GPU code and vLLM's findings about models.
ENV TRITON_HOME=/var/lib/stoker/.cache \
    TORCHINDUCTOR_CACHE_DIR=/var/lib/stoker/.cache/inductor \
    CUDA_CACHE_PATH=/var/lib/stoker/.cache/nv
# For NVIDIA's container runtime. `utility` provides NVML, with which a worker chooses its GPU.
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility,video
HEALTHCHECK --interval=30s --timeout=15s --start-period=600s CMD ["stoker", "worker", "health"]
CMD ["stoker", "worker", "chat"]
ARG REVISION=
LABEL org.opencontainers.image.title="stoker worker-cuda" org.opencontainers.image.revision=${REVISION}
