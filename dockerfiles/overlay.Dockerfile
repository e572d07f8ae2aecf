# Another commit's source over a base's compiled binaries.
#
# Contexts: (main)  delta.tar, laid over /; deleted, the paths to delete
#           inside  scripts of build/inside

ARG BASE
# `cleared` where the commit deletes files, else `base`: a step that runs costs more than the whole rest.
ARG START=base

FROM ${BASE} AS base

FROM base AS cleared
USER 0
RUN --network=none --mount=type=bind,from=inside,target=/inside --mount=type=bind,source=deleted,target=/deleted \
    ["/opt/vllm/bin/python", "/inside/delete.py", "/opt/vllm-source", "/deleted"]

# hadolint ignore=DL3006
FROM ${START}
ARG BASE_USER
ADD delta.tar /
USER ${BASE_USER}
