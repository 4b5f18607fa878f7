# syntax=docker/dockerfile:1
# The images of bankstream. Targets: `worker` (the default: workers and the command line), `warehouse` (the local Snowflake-protocol
# server) and `dbt` (the dbt project, against whatever warehouse the settings name). What is installed is what the hashed locks in requirements/ say; nothing secret is in any layer: settings come from the environment.

# 3.11 is the version that the locks are made for and that the tests run on. Update together with the other FROM.
FROM python:3.11.15-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    UV_COMPILE_BYTECODE=1 \
    UV_LINK_MODE=copy \
    UV_NO_CACHE=1
WORKDIR /build
COPY requirements/bootstrap.txt requirements/build.txt requirements/runtime.txt requirements/
RUN python -m venv /opt/build /opt/bankstream \
    && /opt/build/bin/pip install --require-hashes -r requirements/bootstrap.txt \
    && /opt/build/bin/uv pip install --python /opt/build/bin/python --require-hashes -r requirements/build.txt \
    && /opt/build/bin/uv pip install --python /opt/bankstream/bin/python --require-hashes -r requirements/runtime.txt
COPY pyproject.toml README.md LICENSE hatch_build.py ./
COPY app app
COPY agents agents
COPY tables tables
COPY sinks sinks
COPY dbt/macros dbt/macros
RUN /opt/build/bin/hatchling build --target wheel --directory /build/dist \
    && /opt/build/bin/uv pip install --python /opt/bankstream/bin/python --no-deps /build/dist/*.whl

FROM build AS warehouse-build
COPY requirements/warehouse.txt requirements/
RUN /opt/build/bin/uv pip install --python /opt/bankstream/bin/python --require-hashes -r requirements/warehouse.txt

FROM build AS dbt-build
COPY requirements/dbt.txt requirements/
RUN /opt/build/bin/uv pip install --python /opt/bankstream/bin/python --require-hashes -r requirements/dbt.txt

FROM python:3.11.15-slim-bookworm AS runtime
# The user's number is fixed: named volumes keep it. HOME is where a read-only root leaves room: libraries keep caches there.
RUN groupadd --gid 10001 bankstream \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin bankstream \
    && install --directory --owner=10001 --group=10001 --mode=0700 /var/lib/bankstream
ENV PATH=/opt/bankstream/bin:$PATH \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /var/lib/bankstream
USER 10001:10001

FROM runtime AS warehouse
COPY --from=warehouse-build /opt/bankstream /opt/bankstream
ENV BANKSTREAM_WAREHOUSE_SERVER_HOST=0.0.0.0 \
    BANKSTREAM_WAREHOUSE_SERVER_PORT=8080 \
    BANKSTREAM_WAREHOUSE_SERVER_DIRECTORY=/var/lib/bankstream/warehouse
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --start-interval=1s --retries=6 \
    CMD ["python", "-m", "app.runtime.health", "warehouse-server"]
ENTRYPOINT ["python", "-m", "app.local.stack.warehouse_server"]

FROM runtime AS dbt
COPY --from=dbt-build /opt/bankstream /opt/bankstream
COPY dbt /opt/dbt
ENV DBT_PROJECT_DIR=/opt/dbt \
    DBT_PROFILES_DIR=/opt/dbt \
    DBT_TARGET_PATH=/tmp/target \
    DBT_LOG_PATH=/tmp/logs \
    DBT_SEND_ANONYMOUS_USAGE_STATS=false
# It ends when it is done: its exit code says how it went.
HEALTHCHECK NONE
ENTRYPOINT ["dbt"]
CMD ["build"]

FROM runtime AS worker
COPY --from=build /opt/bankstream /opt/bankstream
ENV BANKSTREAM_ENGINE_STATE_DIR=/var/lib/bankstream/state \
    BANKSTREAM_LOG_FORMAT=json \
    BANKSTREAM_METRICS_HOST=0.0.0.0 \
    BANKSTREAM_METRICS_PORT=9090
EXPOSE 9090
# A worker drains within 30 s of SIGTERM: give it 40 (docker stop --time 40).
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --start-interval=1s --retries=4 \
    CMD ["python", "-m", "app.runtime.health", "worker"]
ENTRYPOINT ["bankstream"]
CMD ["--help"]
