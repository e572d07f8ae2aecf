# An overlay as the tool that this one replaces made it: the whole .git mounted, fetched from and checked out inside.
ARG BASE
FROM ${BASE}
ARG COMMIT
WORKDIR /opt/vllm-source
# Git starts another one to read the mounted repository, which knows nothing of this one's `-c`.
RUN --network=none --mount=type=bind,from=git,target=/git --mount=type=tmpfs,target=/settings \
    export GIT_CONFIG_GLOBAL=/settings/git; \
    git config --global safe.directory '*'; \
    git fetch --quiet /git "${COMMIT}"; \
    git checkout --quiet --force FETCH_HEAD
