# Sourced before `ray start` on every machine of aws.yaml: all that is fetched, compiled, spilled or temporary goes to
# ~/local, which is on the machine's own NVMe disks where it has any.
export XDG_CACHE_HOME=$HOME/local/cache
export S2D_CACHE=$XDG_CACHE_HOME/s2d_ray
export HF_HOME=$XDG_CACHE_HOME/huggingface
export VLLM_CACHE_ROOT=$XDG_CACHE_HOME/vllm
export TRITON_CACHE_DIR=$XDG_CACHE_HOME/triton
export TORCHINDUCTOR_CACHE_DIR=$XDG_CACHE_HOME/torchinductor
export CUDA_CACHE_PATH=$XDG_CACHE_HOME/cuda
export CUTE_DSL_CACHE_DIR=$XDG_CACHE_HOME/cute
export TILELANG_CACHE_DIR=$XDG_CACHE_HOME/tilelang
export FLASHINFER_WORKSPACE_BASE=$XDG_CACHE_HOME
export TMPDIR=$HOME/local/tmp
# Read by the hub's client on each machine; aws.yaml can copy it there. It is in no job's metadata.
export HF_TOKEN_PATH=$HOME/.huggingface_token
