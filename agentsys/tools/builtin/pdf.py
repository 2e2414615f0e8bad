"""The text of PDFs: pypdf in a process of its own, for a file may be made to keep a reader busy for ever."""

from typing import Annotated, Any

from pydantic import Field
from typing_extensions import TypedDict

from agentsys.core.errors import ToolFailed
from agentsys.tools.builtin.table import bounds_of
from agentsys.tools.builtin.types import FileName
from agentsys.tools.context import ToolContext
from agentsys.tools.registry import tool
from agentsys.tools.sandbox.limits import MB
from agentsys.tools.sandbox.program import run as run_program

MAX_SECONDS = 40.0
MEMORY_BYTES = 1_000 * MB
BREAK = "\n\f\n"


class PdfText(TypedDict):
    """``pages`` is how many there are; ``is_complete`` is false where the text was cut off."""

    name: str
    pages: int
    text: str
    is_complete: bool


@tool(
    name="pdf.text",
    effect="pure",
    lane="compute",
    timeout_s=60.0,
    result_path="text",
)
def text(
    name: FileName,
    ctx: ToolContext,
    first_page: Annotated[int, Field(ge=1, le=100_000, description="Counted from 1.")] = 1,
    last_page: Annotated[int | None, Field(ge=1, le=100_000, description="The last one unless given.")] = None,
    max_chars: Annotated[int, Field(ge=1, le=300_000, description="How much text is given back.")] = 100_000,
) -> PdfText:
    """Transcribe a PDF of this run, its pages apart by form feeds.

    Pages that are pictures have no text.
    """
    if last_page is not None and last_page < first_page:
        raise ToolFailed(f"last_page {last_page} is before first_page {first_page}.")
    job: dict[str, Any] = {"first": first_page, "last": last_page, "max_chars": max_chars}
    found = run_program(
        "pdf",
        job,
        [ctx.files.read(name)],
        put=lambda job, descriptors: job.update(descriptor=descriptors[0]),
        bounds=bounds_of(ctx, MAX_SECONDS, MEMORY_BYTES),
        should_stop=lambda: ctx.cancelled,
    )
    return PdfText(name=name, pages=found["pages"], text=BREAK.join(found["texts"]), is_complete=found["is_complete"])
