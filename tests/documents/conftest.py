"""Fixtures that read documents as the stage does: by the suffix of a file in a corpus folder."""

import pytest

from pdtrain.config import CorpusConfig
from pdtrain.documents.library import read_documents


@pytest.fixture
def read(tmp_path):
    """Return a function that writes a file into a corpus folder and returns its documents."""

    def read(name, content, **config):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return list(read_documents(path, CorpusConfig(documents=str(tmp_path), **config)))

    return read


@pytest.fixture
def read_one(read):
    """Return a function that writes a file and returns the one document that it holds."""

    def read_one(name, content, **config):
        (document,) = read(name, content, **config)
        return document

    return read_one
