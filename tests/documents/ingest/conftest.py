"""Fixtures that run the stage `passages` on small folders."""

import json

import pytest
from support import tiny_config, tiny_model

from pdtrain.documents import passages as stage
from pdtrain.storage import read_json, read_shards


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model"))


class Corpus:
    """Hold a folder of documents and its run, and say what the stage makes of it."""

    def __init__(self, folder, model):
        self.folder, self.model = folder, model
        self.documents, self.run = folder / "docs", folder / "run"

    def write(self, name, content="The pier of Osk is old."):
        path = self.documents / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def config(self, **settings):
        settings = {"documents": str(self.documents)} | settings
        return tiny_config(self.run, self.model, corpus=settings)

    def split(self, **settings):
        stage.split(self.config(**settings))
        return self.passages

    @property
    def passages(self):
        return list(read_shards(self.run / "passages"))

    @property
    def texts(self):
        return {p["document_id"]: p["text"] for p in self.passages}

    @property
    def report(self):
        """Return the entries of the report by file."""
        found = read_json(self.run / "passages/report.json")
        return {entry["file"]: entry for entry in found["files"]}

    @property
    def summary(self):
        return read_json(self.run / "passages/report.json")["summary"]

    @property
    def shards(self):
        manifest = json.loads((self.run / "passages/manifest.json").read_text())
        return manifest["output"], manifest["shards"]


@pytest.fixture
def corpus(tmp_path, model):
    return Corpus(tmp_path, model)
