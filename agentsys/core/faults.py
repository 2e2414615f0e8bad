"""One thing that is wrong with what was given, as answers list it: ``{path, code, message}``."""

Fault = dict[str, str]


def fault(path: str, code: str, message: str) -> Fault:
    """``path`` leads to the value (``limits.steps``, ``tools[2]``), ``code`` is stable, ``message`` says what to do."""
    return {"path": path, "code": code, "message": message}
