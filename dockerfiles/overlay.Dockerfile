# Another commit's source over a base's compiled binaries, where it cannot be handed over as a layer (build/engine/load.py):
# something is to be installed, or the engine keeps images in the containerd store.
#
# Contexts: (main)  delta.tar, laid over /; deleted, the paths to delete; requirements.txt, what to install;
#                   constraints.txt, what has to stay true
#           inside  scripts of build/base/inside
#           uv, find-links  the uv program and the host's package files, where something is installed
# Secrets:  environment, uv.toml, ca.pem: as in cpu.Dockerfile

ARG BASE
# `installed` where requirements are installed, else `base`; `cleared` where the commit deletes files, else
# `packaged`: a step that runs costs more than the whole rest.
ARG PACKAGES=base
ARG START=packaged
# Where the base has its Python and vLLM's source.
ARG PYTHON=/opt/vllm/bin/python
ARG SOURCE=/opt/vllm-source

FROM ${BASE} AS base

FROM base AS installed
ARG PYTHON
# The last stage sets the base's own user again.
# hadolint ignore=DL3002
USER 0
SHELL ["/bin/sh", "-euc"]
RUN --mount=type=secret,id=environment --mount=type=secret,id=uv.toml --mount=type=secret,id=ca.pem \
    --mount=type=bind,from=uv,target=/uv --mount=type=bind,from=find-links,target=/find-links \
    --mount=type=bind,source=requirements.txt,target=/requirements.txt \
    --mount=type=bind,source=constraints.txt,target=/constraints.txt \
    --mount=type=cache,target=/root/.cache/uv \
    # What the image says to uv and pip is for its own build: constraints, indexes, the torch backend.
    for name in $("$PYTHON" -I -c \
        "import os; print(*(name for name in os.environ if name.startswith(('UV_', 'PIP_'))))"); do unset "$name"; done; \
    . /run/secrets/environment; \
    HOME=/root UV_LINK_MODE=copy UV_NO_PROGRESS=1 \
        /uv/uv pip install --break-system-packages --python "$PYTHON" --requirement /requirements.txt --constraint /constraints.txt

# hadolint ignore=DL3006
FROM ${PACKAGES} AS packaged

FROM packaged AS cleared
ARG PYTHON
ARG SOURCE
# hadolint ignore=DL3002
USER 0
RUN --network=none --mount=type=bind,from=inside,target=/inside --mount=type=bind,source=deleted,target=/deleted \
    "$PYTHON" /inside/delete.py "$SOURCE" /deleted

# hadolint ignore=DL3006
FROM ${START}
ARG BASE_USER
ADD delta.tar /
USER ${BASE_USER}
