# The service, and nothing it doesn't need. docs/deploy.md says how to run it.

FROM python:3.12-slim AS build
WORKDIR /build
COPY pyproject.toml README.md ./
COPY src src
RUN python -m venv /opt/muniment \
 && /opt/muniment/bin/pip install --no-cache-dir --quiet '.[http,postgres]' \
 && /opt/muniment/bin/pip uninstall --yes --quiet pip

FROM python:3.12-slim
RUN useradd --system --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin muniment \
 && install --directory --owner=muniment --group=muniment --mode=0700 /var/lib/muniment
COPY --from=build /opt/muniment /opt/muniment
ENV PATH=/opt/muniment/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    MUNIMENT_URL=sqlite:////var/lib/muniment/audit.db \
    MUNIMENT_SPOOL_DIR=/var/lib/muniment/spool \
    MUNIMENT_HTTP_HOST=0.0.0.0
# The spool is as durable as this is: mount a disk that outlives the container.
VOLUME /var/lib/muniment
WORKDIR /var/lib/muniment
USER 10001:10001
EXPOSE 8640
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
  CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8640/healthz', timeout=4)"]
ENTRYPOINT ["muniment"]
CMD ["serve"]
