"""Why embeddings collapse and training stalls: measures, thresholds, findings."""

from jaxrec._packages import make_callable

make_callable(__name__, "jaxrec.doctor.read", "diagnose")
