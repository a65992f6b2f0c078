"""Run the stage that splits the documents of a corpus into passages.

Files are read one by one, in processes of this machine and under a launcher on all its ranks, and
what was read of each is kept. Then it is joined in the order of the files, and what stands twice is
left out. The result does not depend on who read which file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import cached_property

from pdtrain.config import RunConfig
from pdtrain.documents.ingest import parts, sharing
from pdtrain.documents.ingest.base import Base
from pdtrain.documents.ingest.cleaning.filters import DocumentFilter
from pdtrain.documents.ingest.listing import (
    CorpusFile,
    Listing,
    left_out_line,
    list_files,
    refuse_empty,
)
from pdtrain.documents.ingest.merging import Files, Merger, skipped
from pdtrain.documents.ingest.parts import CannotWrite, Finished, PartWriter
from pdtrain.documents.ingest.reading import CountTokens, FileReader
from pdtrain.documents.ingest.report import FileReport
from pdtrain.documents.ingest.workers import (
    Crash,
    Request,
    Result,
    num_workers,
    read_here,
    read_in_processes,
)
from pdtrain.documents.readers.pdf_page import recognition
from pdtrain.files.manifests import manifest_of
from pdtrain.models.chat.spelt import Spelt
from pdtrain.processes.interrupt import end_if_asked
from pdtrain.processes.shares import ALONE, Share
from pdtrain.progress import at_work, progress, say, warn
from pdtrain.stage import is_current, output_of, say_current
from pdtrain.storage import hash_json, remove_stale_shards, sums, write_checked, write_line_shards

VERSION = 14  # part of the input hash: raise it when the same documents would be split differently
RECORDS_PER_SHARD = 10_000


def split(config: RunConfig, share: Share = ALONE, ranks_here: int = 1) -> None:
    """Run the stage `passages`: split every document of the corpus into passages.

    Args:
        config: the run's config.
        share: this process's part of the files; the first one of several joins what all have read.
        ranks_here: how many ranks of a launcher share this machine's cores.

    Raises:
        OSError: what was read cannot be written.
        Stopped: the run's stop file is there; what was read is kept.
        ValueError: the corpus has no documents or none that holds text; or a file cannot be read
            and `corpus.on_error` is stop. `passages/report.json` then names every such file.
    """
    listing = refuse_empty(list_files(config.corpus, config.own_inputs), config.corpus)
    if line := left_out_line(listing):
        say(line)
    try:
        stage = _Stage(config, share, ranks_here)
        if not stage.agrees(listing.files):
            return
        if share.leads:
            stage.finish(listing, stage.read(listing.files))
        else:
            stage.read_share(listing.files)
    except CannotWrite as error:
        raise error.as_machine_error() from None


class _Stage:
    """Hold what the steps of the stage share."""

    def __init__(self, config: RunConfig, share: Share, ranks_here: int) -> None:
        self.config, self.share, self.ranks_here = config, share, ranks_here
        self.folder = config.run.passages_folder
        self.parts = self.folder / "files"
        corpus = config.corpus
        self.base = Base(config.model, self.parts)
        self.settings = {
            "version": VERSION,
            "knobs": config.hash_for("reading"),
            "model": self.base.fingerprint,
            "signatures": [corpus.duplicates == "near", corpus.passage_duplicates == "near"],
        }
        if corpus.ocr:  # only then, so that earlier runs without it stay as they are
            self.settings["ocr"] = corpus.ocr
            recognition.check(corpus.ocr)
        self.settings_hash = hash_json(self.settings)
        DocumentFilter(corpus)  # or an error about an extra that is not installed

    def agrees(self, files: Sequence[CorpusFile]) -> bool:
        """Return whether this rank's first process is still there, after they agreed on the files.

        Raises:
            ValueError: the first process has other files.
        """
        if self.share.size == 1:
            return True
        agreed = self.share.agree(self.folder, self.settings_hash, sharing.hash_of(files))
        self.settings_hash = agreed or self.settings_hash
        return agreed is not None

    def read_share(self, files: Sequence[CorpusFile]) -> None:
        """Read this rank's share of the files, for the first rank to join."""
        known = parts.load(self.parts, self.settings_hash)
        requests = [Request(file, "") for file in files if file.name not in known]
        crashed = {}
        for file, result in self._results(sharing.own(requests, files, self.share)):
            if isinstance(result, Crash):
                crashed[file.name] = result.detail
            end_if_asked(self.config.run.stop_file, f"passages: rank {self.share.rank}'s files")
            if self.share.is_over():
                return
        self.share.report(self.folder, crashed)

    def read(self, files: Sequence[CorpusFile]) -> Files:
        """Read the files that are new or changed, and return where all of them are, in order."""
        known = parts.load(self.parts, self.settings_hash)
        found: dict[str, Finished | Crash] = {}
        requests = []
        for file in files:
            before = known.get(file.name)
            if before and is_unchanged(file, before):
                found[file.name] = before
            else:
                requests.append(Request(file, before.sha256 if before else ""))
        if requests:
            say(f"passages: {len(requests)} of {len(files)} files to look at")
        with progress("passages", len(files), "files", done=len(found)) as advance:
            for file, result in self._shared_results(requests, files):
                if result is None:  # a new date alone
                    before = known[file.name]
                    result = before._replace(size=file.size, mtime_ns=file.mtime_ns)
                found[file.name] = result
                advance()
                end_if_asked(self.config.run.stop_file, at_work())
        return {file.name: found[file.name] for file in files}

    def finish(self, listing: Listing, files: Files) -> None:
        """Write shards, report and manifest where something has changed.

        Raises:
            ValueError: no document is left, or `corpus.on_error` is stop and there are bad files.
        """
        if is_current(self.folder, self._inputs(listing, files)):
            say_current("passages", self.folder)
            self._save(files)
            return
        files = self._whole(listing, files)
        inputs = self._inputs(listing, files)
        left_out = sorted(listing.left_out.items())
        corpus = self.config.corpus
        merger = Merger(corpus, files, self.folder, self.count_tokens)
        merger.compare()
        report = FileReport(corpus, self.folder)
        control = Spelt(self.base.control_names)
        lines = control.counted(merger.lines(report))
        shards = write_line_shards(self.folder, lines, RECORDS_PER_SHARD)
        for name, (reason, detail) in left_out:
            report.append(skipped(name, reason, detail))
        report.close()
        self._save(files)
        try:
            report.tell()
        except ValueError:
            self._keep_earlier_shards()
            raise
        output = output_of(shards) | {"sha256": sums(self.folder, ["report.json"])}
        spelt = {"control_tokens": dict(control.spelt)} if control.spelt else {}
        control.tell("passages")
        write_checked(self.folder / "manifest.json", {"inputs": inputs, **output, **spelt})
        remove_stale_shards(self.folder, shards)
        for path in self.folder.glob("failed-*.json"):  # of ranks; they are in the report
            path.unlink(missing_ok=True)
        say(f"passages: {output['num_records']} passages ({self.folder})")

    def _inputs(self, listing: Listing, files: Files) -> str:
        """Return the hash of everything that decides the passages."""
        hashes = [
            [name, one.sha256 if isinstance(one, Finished) else one.detail]
            for name, one in files.items()
        ]
        config = self.config
        decided = [self.settings, config.hash_for("passages"), config.corpus.on_error]
        return hash_json([decided, hashes, sorted(listing.left_out.items())])

    def _whole(self, listing: Listing, files: Files) -> Files:
        """Return the files, after those were read again whose part was damaged since."""
        damaged = {
            name for name, one in files.items() if isinstance(one, Finished) and not one.is_whole()
        }
        if not damaged:
            return files
        warn(f"passages: what was read of {len(damaged)} files is damaged; they are read again")
        requests = [Request(file, "") for file in listing.files if file.name in damaged]
        again = {file.name: one for file, one in self._results(requests) if one is not None}
        return files | again

    def _save(self, files: Files) -> None:
        """Keep what was read for the next run; a file that ended its process is read again."""
        read = {name: one for name, one in files.items() if isinstance(one, Finished)}
        parts.save(
            self.parts, self.settings_hash, parts.compact(self.parts, self.settings_hash, read)
        )

    def _keep_earlier_shards(self) -> None:
        """Remove the shards that were written for a manifest that will not be."""
        manifest = manifest_of(self.folder) or {"shards": []}
        remove_stale_shards(self.folder, manifest["shards"])

    def _shared_results(
        self, requests: Sequence[Request], files: Sequence[CorpusFile]
    ) -> Iterator[tuple[CorpusFile, Result]]:
        """Yield what this process reads of the files, and then what the other ranks do."""
        mine = sharing.own(requests, files, self.share)
        yield from self._results(mine)
        others = {request.file.name for request in requests}
        others -= {request.file.name for request in mine}
        theirs = [request for request in requests if request.file.name in others]
        yield from sharing.of_followers(
            theirs, self.folder, self.settings_hash, self.share, self.config.run.stop_file
        )

    def _results(self, requests: Sequence[Request]) -> Iterator[tuple[CorpusFile, Result]]:
        if not requests:
            return
        corpus = self.config.corpus
        count = num_workers(corpus.workers, requests, self.ranks_here)
        if count == 1:
            part = PartWriter(self.parts, "here", self.settings_hash)
            yield from read_here(requests, FileReader(corpus, part, self.count_tokens))
            return
        self.parts.mkdir(parents=True, exist_ok=True)
        setup = {
            "folder": str(self.parts),
            "writer": "process",
            "settings": self.settings_hash,
            "corpus": asdict(corpus),
            "model": asdict(self.config.model),
            "tokenizer": self.base.tokenizer_file,
        }
        yield from read_in_processes(requests, setup, count)

    @cached_property
    def count_tokens(self) -> CountTokens:
        """Return a function that counts the tokens of a text; control tokens do not count in it."""
        return self.base.counter()


def is_unchanged(file: CorpusFile, before: Finished) -> bool:
    """Tell whether a file is surely what was read before, so that it need not be looked into.

    A file that was written just before it was read may have been written again without a new date.
    """
    is_racy = before.mtime_ns > before.looked_at_ns - parts.RACY_NS
    same = (file.size, file.mtime_ns) == (before.size, before.mtime_ns)
    return same and not is_racy
