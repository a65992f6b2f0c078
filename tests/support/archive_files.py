"""Make archives of given members, in memory."""

import io
import tarfile
import zipfile


def zip_of(members, link=""):
    """Return a zip; with `link`, a member `link.txt` is a symbolic link there."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        if link:
            entry = zipfile.ZipInfo("link.txt")
            entry.external_attr = 0o120777 << 16
            archive.writestr(entry, link)
    return stream.getvalue()


def tar_of(members, mode="w", link=""):
    """Return a tar, compressed by mode; with `link`, a member `link.txt` is a link there."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        if link:
            entry = tarfile.TarInfo("link.txt")
            entry.type, entry.linkname = tarfile.SYMTYPE, link
            archive.addfile(entry)
    return stream.getvalue()
