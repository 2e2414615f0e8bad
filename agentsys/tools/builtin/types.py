"""Argument types that several tools share."""

from typing import Annotated

from pydantic import Field

MAX_TEXT_CHARS = 1_000_000

Text = Annotated[str, Field(max_length=MAX_TEXT_CHARS, description="The text, at most 1,000,000 characters.")]
FileName = Annotated[
    str, Field(min_length=1, max_length=255, description="A file's name in this run, such as README.md.")
]
Url = Annotated[str, Field(min_length=1, max_length=4_000, description="An http or https address.")]
