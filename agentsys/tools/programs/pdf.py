"""The text of a PDF, by pypdf."""

import io
import os
from typing import Any

import chamber
import pypdf
from pypdf.errors import PyPdfError


def text(job: dict[str, Any]) -> dict[str, Any]:
    """Texts of pages ``first`` to ``last``, counted from 1, up to so many characters."""
    with open(job["descriptor"], "rb") as file:
        content = file.read()
    try:
        reader = pypdf.PdfReader(io.BytesIO(content))
        if reader.is_encrypted and not reader.decrypt(""):
            raise chamber.Refused("The PDF is encrypted.")
        return _pages(reader, job)
    except (PyPdfError, ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError, OSError) as error:
        raise chamber.Refused(f"It is not a PDF that can be read: {type(error).__name__}: {error}") from None


def _pages(reader: pypdf.PdfReader, job: dict[str, Any]) -> dict[str, Any]:
    count, left, texts = len(reader.pages), job["max_chars"], []
    last = min(job["last"] or count, count)
    for number in range(job["first"], last + 1):
        page = reader.pages[number - 1].extract_text()
        texts.append(page[:left])
        left -= len(page)
        if left < 0:
            break
    return {"pages": count, "first": job["first"], "texts": texts, "is_complete": left >= 0}


if __name__ == "__main__":
    os.environ.clear()
    chamber.work(text)
