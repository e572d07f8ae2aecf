# The embedded registry where its usual image cannot be pulled: Debian's docker-registry on a root file system.
#
# Secrets: environment, ca.pem: as in cpu.Dockerfile

ARG ROOTFS
FROM ${ROOTFS}
SHELL ["/bin/sh", "-euc"]
# Versions are the suite's.
# hadolint ignore=DL3008
RUN --mount=type=secret,id=environment --mount=type=secret,id=ca.pem \
    . /run/secrets/environment; \
    apt-get update; \
    apt-get install --yes --no-install-recommends docker-registry; \
    rm -rf /var/lib/apt/lists/*
USER 65532:65532
ENTRYPOINT ["docker-registry"]
