"""The text of PDFs."""

import io
import zlib

import pypdf
import pytest

from agentsys.core.errors import NotFound, StepCancelled, ToolArgumentsInvalid, ToolFailed
from agentsys.tools import registry, runner
from agentsys.tools.testing import context


def pdf(*texts: str, password: str = "", stream: bytes | None = None) -> bytes:
    """A PDF with a page for each text, written by hand."""
    objects = [b"<< /Type /Catalog /Pages 2 0 R >>", b""]
    kids = []
    objects.append(b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>")
    for text in texts:
        content = stream if stream is not None else f"BT /F1 12 Tf 50 700 Td ({text}) Tj ET".encode("latin-1")
        packed = zlib.compress(content)
        page = len(objects) + 1
        kids.append(f"{page} 0 R")
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /Contents {page + 1} 0 R /Resources << /Font << /F1 3 0 R >> >> >>".encode()
        )
        objects.append(f"<< /Length {len(packed)} /Filter /FlateDecode >>\nstream\n".encode() + packed + b"\nendstream")
    objects[1] = f"<< /Type /Pages /Kids [{' '.join(kids)}] /Count {len(kids)} /MediaBox [0 0 600 800] >>".encode()
    out, places = bytearray(b"%PDF-1.4\n"), []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += f"{number} 0 obj\n".encode() + body + b"\nendobj\n"
    start = len(out)
    out += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode()
    out += b"".join(f"{place:010} 00000 n \n".encode() for place in places)
    out += f"trailer << /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{start}\n%%EOF".encode()
    return encrypted(bytes(out), password) if password else bytes(out)


def encrypted(content: bytes, password: str) -> bytes:
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(content))
    writer.encrypt(password, algorithm="RC4-128")
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def test_the_text_of_all_pages_or_of_some(call, files):
    files.write("r.pdf", pdf("one", "two", "three"))

    whole = call("pdf.text", name="r.pdf")
    assert (whole["pages"], whole["is_complete"]) == (3, True)
    assert whole["text"].split("\n\f\n") == ["one", "two", "three"]
    assert call("pdf.text", name="r.pdf", first_page=2, last_page=2)["text"] == "two"
    assert call("pdf.text", name="r.pdf", first_page=3, last_page=99)["text"] == "three"
    assert call("pdf.text", name="r.pdf", first_page=9)["text"] == ""
    cut = call("pdf.text", name="r.pdf", max_chars=4)
    assert (cut["text"], cut["is_complete"]) == ("one\n\f\nt", False)


def test_a_page_without_text_has_none(call, files):
    files.write("r.pdf", pdf("", stream=b"0 0 m 10 10 l S"))
    assert call("pdf.text", name="r.pdf")["text"] == ""


@pytest.mark.parametrize(
    "content", [b"", b"no PDF", b"%PDF-1.4", pdf("x")[:200], pdf("x")[50:], b"%PDF-1.4\n" + bytes(1000)]
)
def test_what_is_no_pdf_is_refused(call, files, content):
    files.write("r.pdf", content)
    with pytest.raises(ToolFailed, match="not a PDF"):
        call("pdf.text", name="r.pdf")


def test_an_encrypted_one_is_refused(call, files):
    files.write("r.pdf", pdf("x", password="secret"))
    with pytest.raises(ToolFailed, match="encrypted"):
        call("pdf.text", name="r.pdf")


def test_a_bomb_fails_alone(call, files):
    files.write("r.pdf", pdf("x", stream=b"BT /F1 12 Tf (" + b"a" * 200_000_000 + b") Tj ET"))
    with pytest.raises(ToolFailed):
        call("pdf.text", name="r.pdf")
    files.write("ok.pdf", pdf("fine"))
    assert call("pdf.text", name="ok.pdf")["text"] == "fine"


def test_a_file_that_is_not_there_and_pages_in_the_wrong_order(call, files):
    with pytest.raises(NotFound):
        call("pdf.text", name="r.pdf")
    files.write("r.pdf", pdf("x"))
    with pytest.raises(ToolFailed, match="before"):
        call("pdf.text", name="r.pdf", first_page=3, last_page=2)
    for wrong in ({"name": ""}, {"name": 5}, {"name": "r.pdf", "first_page": 0}, {"name": "r.pdf", "max_chars": 0}):
        with pytest.raises(ToolArgumentsInvalid):
            call("pdf.text", **wrong)


def test_a_cancel_ends_it(files):
    files.write("r.pdf", pdf("x"))
    ctx = context(files=files)
    ctx.cancelled = True
    with pytest.raises(StepCancelled):
        runner.run(registry.get("pdf.text"), {"name": "r.pdf"}, ctx)
