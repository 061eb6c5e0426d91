"""Lists over HTTP: ``jaxrec serve``. Needs the extra ``serve``."""
