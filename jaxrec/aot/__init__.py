"""Programs compiled for accelerators that are not here, and what they would cost there.

XLA's compilers for NVIDIA's GPUs and for TPUs run on any machine. :mod:`targets` names the
machines, :mod:`programs` makes the programs of a configuration from the shapes of its arrays alone,
:mod:`compiler` compiles them, and :mod:`hlo` reads what came out. All but the names and the reader
run in a process of their own (:mod:`child`, started by :mod:`parent`): a compiler's plugin changes
what JAX does when it starts.
"""
