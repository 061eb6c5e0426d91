"""The HTTP server of ``jaxrec serve``. Needs the extra ``serve``."""
