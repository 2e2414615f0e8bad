"""Contents handed to another process as files in memory: neither a disk nor a list of processes shows them."""

import os
from contextlib import ExitStack


class Sheets(ExitStack):
    """``descriptors`` are those of what was put; all are closed at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.descriptors: list[int] = []

    def put(self, content: bytes) -> int:
        sheet = os.memfd_create("sheet")
        self.callback(os.close, sheet)
        self.descriptors.append(sheet)
        with open(sheet, "wb", closefd=False) as file:
            file.write(content)
        os.lseek(sheet, 0, os.SEEK_SET)
        return sheet
