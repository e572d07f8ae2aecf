# The places of vLLM's own images: vLLM installed from a wheel, and root as the user.
#
# Context: packages/  what the wheels installed
#          extension.c  what its compiled files are made of
#          record.py  writes RECORD

ARG ROOTFS
# `venv` as in vLLM's image for the CPU, `system` as in that for CUDA.
ARG PLACE
FROM ${ROOTFS} AS venv
RUN python3 -m venv --without-pip /opt/venv
ENV PATH=/opt/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    VIRTUAL_ENV=/opt/venv
ENTRYPOINT ["vllm", "serve"]

FROM ${ROOTFS} AS system
ENTRYPOINT ["python3", "-m", "vllm.entrypoints.openai.api_server"]

# hadolint ignore=DL3006
FROM ${PLACE}
SHELL ["/bin/sh", "-euc"]
RUN --mount=type=bind,source=packages,target=/packages --mount=type=bind,source=extension.c,target=/extension.c \
    --mount=type=bind,source=record.py,target=/record.py \
    folder="$(python3 -c 'import site; print(site.getsitepackages()[0])')"; \
    mkdir -p "$folder"; \
    cp -R /packages/. "$folder"; \
    programs="$(python3 -c 'import sys; print("/usr/local/bin" if sys.prefix == sys.base_prefix else sys.prefix + "/bin")')"; \
    printf '%s\n' "#!$(command -v python3)" 'import sys' 'from vllm.entrypoints.cli.main import main' \
        'sys.exit(main())' >"$programs/vllm"; \
    chmod 0755 "$programs/vllm"; \
    for name in _C _C_AVX2 _C_AVX512; do gcc -shared -fPIC -o "$folder/vllm/$name.abi3.so" /extension.c; done; \
    python3 /record.py "$folder" "$programs/vllm"
WORKDIR /vllm-workspace
EXPOSE 8000
