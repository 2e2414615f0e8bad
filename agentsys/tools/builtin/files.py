"""The run's own files: rows of the database behind the context, never this machine's disk."""

from typing import Annotated

from pydantic import Field
from typing_extensions import TypedDict

from agentsys.core.errors import ToolFailed, ToolOutputTooLarge
from agentsys.tools.builtin.types import MAX_TEXT_CHARS, FileName, Text
from agentsys.tools.context import FileInfo, ToolContext
from agentsys.tools.registry import tool


class FileText(TypedDict):
    name: str
    size: int
    text: str


class FileList(TypedDict):
    files: list[FileInfo]
    count: int


@tool(
    name="files.read",
    effect="pure",
    lane="network",
    timeout_s=20.0,
    result_path="text",
    examples=(
        "read README.md",
        "read the file notes.txt",
        "open the file report.md",
        "load data.csv",
        "read the README",
    ),
)
def read(name: FileName, ctx: ToolContext) -> FileText:
    """Read one of this run's text files."""
    content = ctx.files.read(name)
    if len(content) > MAX_TEXT_CHARS:
        raise ToolOutputTooLarge(f"{name} has {len(content)} bytes; at most {MAX_TEXT_CHARS} can be read.")
    try:
        return FileText(name=name, size=len(content), text=content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ToolFailed(f"{name} is not UTF-8 text.", file=name) from error


@tool(
    name="files.write",
    effect="idempotent",
    lane="network",
    timeout_s=20.0,
    result_path="name",
    examples=(
        "write it to report.md",
        "save the result as summary.txt",
        "store the text in notes.txt",
        "write 'hello' to hello.txt",
        "save it to the file out.json",
    ),
)
def write(
    name: Annotated[FileName, Field(pattern=r"^ *[^ /\\\x00-\x1f\x7f][^/\\\x00-\x1f\x7f]*$")],
    text: Text,
    ctx: ToolContext,
) -> FileInfo:
    """Write a text to one of this run's files; a file of that name is replaced."""
    if name in {".", ".."}:
        raise ToolFailed("A file needs a name other than . and ..", file=name)
    content = text.encode("utf-8", "replace")
    ctx.files.write(name, content)
    return FileInfo(name=name, size=len(content))


@tool(
    name="files.list",
    effect="pure",
    lane="network",
    timeout_s=20.0,
    result_path="files",
    examples=("list the files", "show the files of this run", "which files are there"),
)
def list_files(ctx: ToolContext) -> FileList:
    """List this run's files with their sizes in bytes."""
    files = [FileInfo(name=file["name"], size=file["size"]) for file in ctx.files.list()]
    return FileList(files=files, count=len(files))
