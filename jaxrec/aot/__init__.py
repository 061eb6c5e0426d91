"""Compile programs ahead of time for other machines' accelerators, and estimate their cost.

XLA's compilers for NVIDIA GPUs and for TPUs run on any machine. :mod:`targets` names the machines,
:mod:`programs` builds a configuration's programs from the shapes of its arrays, :mod:`compiler`
compiles them, and :mod:`hlo` analyses the compiled text. Programs are built and compiled in a
separate process (:mod:`child`, started by :mod:`parent`), because a compiler's plugin changes how
JAX starts.
"""
