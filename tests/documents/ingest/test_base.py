"""What the stage learns of the base, in a process that ends before documents are read."""

import errno
import json
import signal
import subprocess
import sys
from dataclasses import asdict

import pytest

from pdtrain.config import ModelConfig
from pdtrain.documents.ingest import base
from pdtrain.models.tokenizer import fingerprint, load_tokenizer

MB = 1e6
# prints the answer, whether torch was there, and the most memory that the process took
PROGRAM = (
    "import json, sys\nfrom pdtrain.documents.ingest import base\nbase.main()\n"
    "lines = open('/proc/self/status').read().splitlines()\n"
    "(most,) = [int(line.split()[1]) * 1024 for line in lines if line.startswith('VmHWM')]\n"
    "print(json.dumps([sys.modules.get('torch') is not None, most]), file=sys.stderr)"
)


@pytest.fixture
def answer(model, tmp_path):
    """Return a function that lets a process answer a request, and says what it took."""

    def answer(**changes):
        request = {"model": asdict(ModelConfig(name=str(model))), "folder": str(tmp_path / "out")}
        request |= {"level": 0, "torch": False} | changes
        command = [sys.executable, "-P", "-c", PROGRAM]
        done = subprocess.run(command, input=json.dumps(request), capture_output=True, text=True)
        assert not done.returncode, done.stderr
        return json.loads(done.stdout), *json.loads(done.stderr.splitlines()[-1])

    return answer


def test_the_tokenizer_is_loaded_without_torch_in_less_than_500_mb(answer, model):
    found, has_torch, most = answer()
    assert not has_torch and most < 500 * MB
    config = ModelConfig(name=str(model))
    assert found["fingerprint"] == fingerprint(config), "whoever asks, the base is the same"
    count, tokenizer = base.counter_of(found["file"], config), load_tokenizer(config)
    for text in ("The pier of Osk is 260 metres long.", "Ōsaka 大阪\n\n", "<|im_end|> is text"):
        ids = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        assert count(text) == len(ids)


def test_a_tokenizer_that_needs_torch_is_loaded_with_it(answer, model, tmp_path, monkeypatch):
    asked = []

    def answering(model, folder, *, with_torch):
        asked.append(with_torch)
        return {"fingerprint": {}, "file": "", "control": []} if with_torch else {"needs_torch": 1}

    monkeypatch.setattr(base, "_ask_once", answering)
    assert base._ask(ModelConfig(name=str(model)), tmp_path)["file"] == "" and asked == [
        False,
        True,
    ]
    asked.clear()
    base._ask(ModelConfig(**{"name": str(model), "trust_remote_code": True}), tmp_path)
    assert asked == [True], "its author's code may need anything"


def test_an_error_of_the_machine_names_the_path_that_it_is_about(model, tmp_path):
    name = "./" + "n" * 300
    with pytest.raises(OSError) as error:
        base._ask(ModelConfig(name=name), tmp_path)
    assert error.value.errno == errno.ENAMETOOLONG and "n" * 300 in error.value.filename
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError) as error:
        base._ask(ModelConfig(name=str(model)), tmp_path / "file" / "out")
    assert error.value.filename.startswith(str(tmp_path / "file"))


def answer_by(program, model, folder):
    """Return how the tokenizer's process ends where a program stands in for it."""
    request = {"model": asdict(ModelConfig(name=str(model))), "folder": str(folder)}
    request |= {"level": 0, "torch": False}
    command = [sys.executable, "-P", "-c", program]
    return subprocess.run(command, input=json.dumps(request), capture_output=True, text=True)


def test_ctrl_c_prints_no_traceback_of_this_process(model, tmp_path):
    program = (
        "import os, signal\nfrom pdtrain.documents.ingest import base\n"
        "base._write = lambda *_: os.kill(os.getpid(), signal.SIGINT) or ('', [])\nbase.main()\n"
    )
    done = answer_by(program, model, tmp_path)
    assert not done.returncode and "KeyboardInterrupt" not in done.stderr, "its parent ends it"


def test_a_process_whose_parent_is_gone_can_be_ended(model, tmp_path):
    program = (
        "import os, signal, time\nfrom pdtrain.documents.ingest import base\n"
        "base._write = lambda *_: os.kill(os.getpid(), signal.SIGTERM) or time.sleep(60)\n"
        "base.main()\n"
    )
    done = answer_by(program, model, tmp_path)
    assert done.returncode == -signal.SIGTERM and not done.stderr


def test_a_package_that_is_missing_is_a_reason_to_try_with_torch(tmp_path):
    program = (
        "from pdtrain.documents.ingest import base\n"
        "def fail(*_):\n    import torch.nn\n"
        "base._write = fail\nbase.main()"
    )
    request = {"model": {}, "folder": str(tmp_path), "level": 0, "torch": False}
    command = [sys.executable, "-P", "-c", program]
    done = subprocess.run(command, input=json.dumps(request), capture_output=True, text=True)
    assert json.loads(done.stdout) == {"needs_torch": True}, done.stderr
