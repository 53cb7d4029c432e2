# SPDX-License-Identifier: MIT
"""LPLB in engines: the hooks of docs/engines.md, as modules.

`lplb.engines.sglang` and `lplb.engines.vllm` are plug-ins, which these engines load by themselves;
`LPLB_SGLANG=1` and `LPLB_VLLM=1` switch them on. `lplb.engines.megatron` is for import. Nothing
here is imported by `import lplb`, and no engine is needed for it.
"""
