# Tidegate and nothing else: no compiler, no pip, no root. Build it: docker build -t tidegate .
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 UV_NO_CACHE=1 UV_SYSTEM_CERTS=1
WORKDIR /build
COPY locks/build.txt locks/runtime.txt locks/
RUN python -m venv tools \
 && tools/bin/pip install --quiet --no-cache-dir --require-hashes -r locks/build.txt \
 && python -m venv --without-pip /opt/tidegate \
 && tools/bin/uv pip install --quiet --python /opt/tidegate/bin/python \
    --require-hashes -r locks/runtime.txt
COPY LICENSE README.md pyproject.toml ./
COPY dataflows dataflows
COPY services services
RUN tools/bin/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir wheel . \
 && tools/bin/uv pip install --quiet --python /opt/tidegate/bin/python --no-deps --offline \
    wheel/*.whl
COPY schemas /opt/tidegate/schemas
COPY config/prices.yaml /opt/tidegate/config/prices.yaml
COPY rules /opt/tidegate/rules
COPY metrics /opt/tidegate/metrics
COPY behaviours /opt/tidegate/behaviours
COPY features /opt/tidegate/features
COPY warehouse_sql /opt/tidegate/warehouse_sql
# Byte code of all that is imported, and the kernels' machine code. (A machine with another kind of
# CPU compiles the kernels again at its first start.)
ENV PATH=/opt/tidegate/bin:$PATH \
    NUMBA_CACHE_DIR=/var/cache/tidegate/kernels \
    TIDEGATE_SCHEMAS=/opt/tidegate/schemas \
    TIDEGATE_RULES=/opt/tidegate/rules \
    TIDEGATE_METRICS=/opt/tidegate/metrics \
    TIDEGATE_BEHAVIOURS=/opt/tidegate/behaviours \
    TIDEGATE_WAREHOUSE_SQL=/opt/tidegate/warehouse_sql
WORKDIR /tmp
RUN tidegate doctor && python -c "import dataflows, services; from importlib import import_module; \
from pkgutil import walk_packages; [import_module(m.name) for p in (dataflows, services) \
for m in walk_packages(p.__path__, p.__name__ + '.') if not m.name.endswith('__main__')]" \
 && rm -f /opt/tidegate/.lock

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="Tidegate" \
      org.opencontainers.image.description="Event-time streaming for an online shop" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --gid 10001 tidegate \
 && useradd --uid 10001 --gid 10001 --no-log-init --no-create-home --home-dir /var/lib/tidegate \
    --shell /usr/sbin/nologin tidegate \
 && install -d -o tidegate -g tidegate /var/lib/tidegate
COPY --from=build /opt/tidegate /opt/tidegate
COPY --from=build --chown=10001:10001 /var/cache/tidegate /var/cache/tidegate
# A thread of BLAS and OpenMP a worker: slots are the parallelism. The service listens to whoever
# can reach the container: its health and metrics are asked for from outside.
ENV PATH=/opt/tidegate/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    OMP_NUM_THREADS=1 \
    NUMBA_CACHE_DIR=/var/cache/tidegate/kernels \
    TIDEGATE_DATA_DIR=/var/lib/tidegate \
    TIDEGATE_SCHEMAS=/opt/tidegate/schemas \
    TIDEGATE_RULES=/opt/tidegate/rules \
    TIDEGATE_METRICS=/opt/tidegate/metrics \
    TIDEGATE_BEHAVIOURS=/opt/tidegate/behaviours \
    TIDEGATE_WAREHOUSE_SQL=/opt/tidegate/warehouse_sql \
    TIDEGATE_COST_PRICES=/opt/tidegate/config/prices.yaml \
    TIDEGATE_SERVICE_HOST=0.0.0.0
USER 10001:10001
WORKDIR /var/lib/tidegate
VOLUME /var/lib/tidegate
EXPOSE 9460-9464
ENTRYPOINT ["tidegate"]
CMD ["up"]
HEALTHCHECK --interval=10s --timeout=10s --start-period=60s CMD ["tidegate", "health"]
