# SPDX-License-Identifier: MIT
"""LPLB in engines: the hooks of docs/engines.md, as modules.

`lplb.engines.vllm` is a plug-in, which vLLM loads by itself; `LPLB_VLLM=1` switches it on.
`lplb.engines.megatron` is for import. Nothing here is imported by `import lplb`, and no engine is
needed for it.
"""
