# The control plane: `python -m trana.jobs`. Build it from the root of the repository, or with `make images`:
#   docker build --file deploy/docker/jobs.Dockerfile --tag trana-jobs:0.1.0 .
FROM python:3.11-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
RUN python3 -m venv /opt/trana
# The dependencies first, of a project that is still empty: a change of the code leaves this layer as it is.
COPY pyproject.toml constraints.txt README.md LICENSE ./
RUN mkdir services && /opt/trana/bin/pip install --constraint constraints.txt '.[server,otel]'
COPY services services
# Neither is needed where nothing is installed any more. pip goes last, as it removes itself.
RUN /opt/trana/bin/pip install --no-deps --force-reinstall . \
    && /opt/trana/bin/pip uninstall --yes setuptools pip

FROM python:3.11-slim-bookworm
LABEL org.opencontainers.image.title="trana-jobs" \
      org.opencontainers.image.description="Trana's control plane: takes jobs over gRPC and trains them on Ray" \
      org.opencontainers.image.licenses="Apache-2.0"
# A number, as `runAsNonRoot` cannot judge a name; and a name, as libraries ask for that of the user.
RUN groupadd --gid 10001 trana \
    && useradd --uid 10001 --gid 10001 --home-dir /tmp --no-create-home --shell /usr/sbin/nologin trana \
    && install --directory --owner 10001 --group 10001 --mode 0750 /var/lib/trana
COPY --from=build /opt/trana /opt/trana
COPY deploy/docker/healthy.py /opt/trana/healthy.py
# pip compiled the bytecode when it installed: nothing is written on a read-only root but below /tmp and the home.
ENV PATH=/opt/trana/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    TRANA_HOME=/var/lib/trana \
    TRANA_LISTEN=0.0.0.0:50051 \
    TRANA_METRICS_LISTEN=0.0.0.0:9464 \
    TRANA_LOG_FORMAT=json
USER 10001:10001
WORKDIR /tmp
EXPOSE 50051 9464
# Kubernetes asks by itself, over gRPC; this is for `docker run`.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["python3", "/opt/trana/healthy.py"]
ENTRYPOINT ["python3", "-m", "trana.jobs"]
