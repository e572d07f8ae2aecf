# Makes an image with vLLM a base: adds what build/base/seal.py found out about it, a small git directory if there is
# none, bytecode of what the server imports and, where vLLM is installed editable, group 0's right to change the source.
#
# Contexts: (main)  seal.tar, laid over /
#           inside  scripts of build/base/inside

ARG BASE
FROM ${BASE}
ARG BASE_USER
# Where the image has its Python and vLLM's source, and whether vLLM is installed `editable` or from a `wheel`.
ARG PYTHON
ARG SOURCE
ARG INSTALLED
USER 0
ADD seal.tar /
# HOME elsewhere: whatever the imports leave there is not for the image.
RUN --network=none --mount=type=bind,from=inside,target=/inside --mount=type=tmpfs,target=/tmp \
    if [ "$INSTALLED" = editable ]; then "$PYTHON" /inside/group.py "$SOURCE" || exit 1; fi; \
    HOME=/tmp HF_HOME=/tmp XDG_CACHE_HOME=/tmp VLLM_NO_USAGE_STATS=1 "$PYTHON" /inside/bytecode.py \
        "$SOURCE" /opt/llm-d-dev/compiled.paths || exit 1; \
    if [ "$INSTALLED" = editable ] && command -v git >/dev/null && \
            ! git config --system --get-all safe.directory "^$SOURCE\$"; then \
        git config --system --add safe.directory "$SOURCE"; \
    fi
USER ${BASE_USER}
