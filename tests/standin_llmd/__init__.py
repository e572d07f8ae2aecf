"""Stand-ins for llm-d's tree, in the shapes that its CUDA image had in 2025 and has in 2026: our own, and small.

Same interface: arguments without defaults that ``docker/common-versions`` states, an argument whose default names one
that is declared further down, optional arguments that only stages declare, two stages on CUDA's images, BuildKit
secrets, a script that chooses the wheel by its tag (before that pip chose), constraints, uid 2000, vLLM editable at
``/opt/vllm-source`` with ``.git``, ``tests`` and ``docs`` deleted, a virtual environment without pip, no entry point.
"""
