# Makes any image with vLLM editable at /opt/vllm-source a base: adds what build/base/seal.py found out about it, a small
# git directory if there is none, bytecode of what the server imports, and group 0's right to change the source.
#
# Contexts: (main)  seal.tar, laid over /
#           inside  scripts of build/base/inside

ARG BASE
FROM ${BASE}
ARG BASE_USER
USER 0
ADD seal.tar /
# HOME elsewhere: whatever the imports leave there is not for the image.
RUN --network=none --mount=type=bind,from=inside,target=/inside --mount=type=tmpfs,target=/tmp \
    /opt/vllm/bin/python /inside/group.py /opt/vllm-source || exit 1; \
    HOME=/tmp HF_HOME=/tmp XDG_CACHE_HOME=/tmp VLLM_NO_USAGE_STATS=1 /opt/vllm/bin/python /inside/bytecode.py \
        /opt/vllm-source /opt/llm-d-dev/compiled.paths || exit 1; \
    if command -v git >/dev/null && ! git config --system --get-all safe.directory '^/opt/vllm-source$'; then \
        git config --system --add safe.directory /opt/vllm-source; \
    fi
USER ${BASE_USER}
