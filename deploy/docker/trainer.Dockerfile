# A node of the Ray cluster, head or worker, and `python -m trana.trainer` without one. Build it from the root of the
# repository, or with `make images`:
#   docker build --file deploy/docker/trainer.Dockerfile --tag trana-trainer-cuda:0.1.0 .
#   docker build --file deploy/docker/trainer.Dockerfile --tag trana-trainer:0.1.0 \
#     --build-arg TORCH=torch==2.13.0+cpu --build-arg PIP_EXTRA_INDEX_URL=<the index of torch's CPU builds> .
FROM python:3.11-slim-bookworm AS build
# Unmarked, the build for CUDA, which brings CUDA's libraries with it: the node needs the driver alone.
ARG TORCH=torch==2.13.0
# What users' networks may be built with: trainer,lightning,keras has all of it.
ARG EXTRAS=trainer
ARG PIP_EXTRA_INDEX_URL=""
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
RUN python3 -m venv /opt/trana
# The dependencies first, of a project that is still empty: a change of the code leaves this layer as it is.
COPY pyproject.toml constraints.txt README.md LICENSE ./
RUN mkdir services && /opt/trana/bin/pip install --constraint constraints.txt "${TORCH}" ".[${EXTRAS}]"
COPY services services
# pip stays here: Ray installs with it what jobs with code ask for.
RUN /opt/trana/bin/pip install --no-deps --force-reinstall .

FROM python:3.11-slim-bookworm
LABEL org.opencontainers.image.title="trana-trainer" \
      org.opencontainers.image.description="Trana's trainer and the Ray node that it runs on" \
      org.opencontainers.image.licenses="Apache-2.0"
# The same numbers as in the image of the control plane: the two share the folder of the checkpoints.
RUN groupadd --gid 10001 trana \
    && useradd --uid 10001 --gid 10001 --home-dir /tmp --no-create-home --shell /usr/sbin/nologin trana \
    && install --directory --owner 10001 --group 10001 --mode 0750 /var/lib/trana
COPY --from=build /opt/trana /opt/trana
# pip compiled the bytecode when it installed: nothing is written on a read-only root but below /tmp and the home.
# NVIDIA_VISIBLE_DEVICES is left to the device plugin: set here, a worker without GPUs would see all of them.
ENV PATH=/opt/trana/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 10001:10001
WORKDIR /tmp
# Of the Ray node. Where the image trains without one, `--no-healthcheck` is the answer; Kubernetes has its own probes.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python3", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:52365/api/healthz', timeout=4)"]
ENTRYPOINT ["python3", "-m", "trana.trainer"]
