#!/bin/sh
# Installs the stand-in for vLLM; told by the step's environment alone, as llm-d's own script is.
set -eu
: "${SUPPRESS_PYTHON_OUTPUT:=}"
test "${VLLM_PREBUILT}" = 0
test -n "${VLLM_REPO}"

# Which wheel it is: one platform tag, on the page of one commit and variant.
: "${VLLM_PRECOMPILED_WHEEL_VARIANT:=cu${CUDA_MAJOR}${CUDA_MINOR}}"
tag="manylinux_2_28_$(uname -m)"
page="https://wheels.vllm.ai/${VLLM_PRECOMPILED_WHEEL_COMMIT}/${VLLM_PRECOMPILED_WHEEL_VARIANT}/vllm/"
echo "One with ${tag} of ${page}, flashinfer-cubin==${FLASHINFER_VERSION#v}"

git -c safe.directory='*' clone --quiet /vllm.git /opt/vllm-source
git config --system --add safe.directory /opt/vllm-source
git -C /opt/vllm-source checkout --quiet "${VLLM_COMMIT_SHA}"

if [ "${VLLM_USE_PRECOMPILED}" = 1 ]; then
    echo "Using precompiled binaries from commit ${VLLM_PRECOMPILED_WHEEL_COMMIT}, cu${CUDA_MAJOR}${CUDA_MINOR}"
else
    echo "Compiling fully from source."
fi
for name in _C _C_AVX2 _C_AVX512; do
    gcc -shared -fPIC -o "/opt/vllm-source/vllm/${name}.abi3.so" /site/extension.c
done
cp /site/_version.py /opt/vllm-source/vllm/_version.py

chmod 0644 /opt/vllm-source/vllm/_version.py

# Elsewhere the driver's, mounted into the container.
cp /site/nvidia-smi /usr/local/bin/nvidia-smi
umask 0002
python3 -m venv --without-pip /opt/vllm
packages="$(/opt/vllm/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
cp -R /site/packages/. "${packages}"
printf '%s\n' '#!/opt/vllm/bin/python' 'import sys' 'from vllm.entrypoints.cli.main import main' \
    'sys.exit(main())' >/opt/vllm/bin/vllm
chmod 0775 /opt/vllm/bin/vllm

rm -rf /opt/vllm-source/.git /opt/vllm-source/docs /opt/vllm-source/tests
