# The base as the tool that this one replaces knew it: with an ordinary clone, not the git directory that sealing makes.
ARG BASE
FROM ${BASE}
ARG BRANCH
WORKDIR /opt/vllm-source
# Sparse as the base's own is, so that both ways write the same files. llm-d's image copies its clone from another
# stage, and most bases were pulled: git's index knows nothing of the files as they lie there (`read-tree` and a `status`
# that may not write give such an index), and `checkout` has to read them.
RUN --network=none --mount=type=bind,from=git,target=/git --mount=type=tmpfs,target=/scratch \
    export GIT_CONFIG_GLOBAL=/scratch/settings GIT_OPTIONAL_LOCKS=0; \
    git config --global safe.directory '*'; \
    git clone --quiet --no-checkout --depth 1 --branch "${BRANCH}" file:///git /scratch/clone; \
    cp .git/info/sparse-checkout /scratch/clone/.git/info/; \
    rm -r .git; \
    cp -r /scratch/clone/.git .git; \
    git config core.sparseCheckout true; \
    git read-tree HEAD; \
    git ls-files -z --deleted >/scratch/absent; \
    git update-index -z --skip-worktree --stdin </scratch/absent; \
    test -z "$(git status --porcelain)"
