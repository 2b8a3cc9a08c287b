# Relay as an image: built in one stage, run in another that has neither pip nor a compiler.
#
#   docker build -t relay .
#   docker run -v relay:/var/lib/relay -v /etc/relay:/etc/relay:ro -p 587:587 -p 465:465 --stop-timeout 60 relay
#
# /etc/relay/relay.toml and the certificate come from outside; all that must outlive a container is in /var/lib/relay.
# A test runs these instructions in order on a bare Debian: tests/system/test_dockerfile.py.

FROM python:3.11-slim-bookworm AS build
WORKDIR /src
RUN python -m venv /build && python -m venv --without-pip /opt/relay
COPY requirements-build.lock requirements.lock ./
RUN --mount=type=cache,target=/root/.cache/pip \
    /build/bin/pip install --require-hashes --no-deps --requirement requirements-build.lock && \
    /build/bin/pip wheel --require-hashes --no-build-isolation --no-deps --wheel-dir /wheels --requirement requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY relay relay
COPY config config
RUN /build/bin/pip wheel --no-build-isolation --no-deps --wheel-dir /wheels . && \
    /build/bin/pip --python /opt/relay/bin/python install --no-index --no-deps /wheels/*.whl

FROM python:3.11-slim-bookworm
# The same number everywhere, so that a volume's files keep their owner from image to image.
RUN groupadd --gid 587 relay && \
    useradd --uid 587 --gid relay --no-create-home --home-dir /var/lib/relay --shell /usr/sbin/nologin relay && \
    install --directory --owner relay --group relay --mode 0700 /var/lib/relay && \
    install --directory --mode 0755 /etc/relay
COPY --from=build /opt/relay /opt/relay
ENV PATH=/opt/relay/bin:/usr/local/bin:/usr/bin:/bin PYTHONUNBUFFERED=1
USER relay
WORKDIR /var/lib/relay
VOLUME ["/var/lib/relay"]
EXPOSE 587 465
# Where [http] listen is another address, give `docker run` a --health-cmd of your own.
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8025/healthz', timeout=4)"]
# Drains: stop accepting, finish transactions (30 s), commit, exit 0. Docker itself waits 10 s: --stop-timeout 60.
STOPSIGNAL SIGTERM
ENTRYPOINT ["relay", "--config", "/etc/relay/relay.toml"]
CMD ["serve"]
