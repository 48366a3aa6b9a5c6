"""What the tests share: a captioner, the program beside it, and images of the sample."""

import json
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "tests/fixtures/preprocess"


@pytest.fixture(scope="session", autouse=True)
def home(tmp_path_factory):
    """A folder for the user's models, so that no other is looked at."""
    folder = tmp_path_factory.mktemp("home")
    os.environ["CLIPCAP_HOME"] = str(folder)
    return folder


@pytest.fixture(scope="session")
def captioner(home):
    import clipcap

    return clipcap.Captioner(device="cpu")


@pytest.fixture(scope="session")
def exact(home):
    """In float32."""
    import clipcap

    return clipcap.Captioner(device="cpu", precision="f32")


@pytest.fixture(scope="session")
def desk(tmp_path_factory):
    """A folder to run the program in."""
    return tmp_path_factory.mktemp("desk")


@pytest.fixture(scope="session")
def program(home, desk):
    """Runs the program and reads its lines of JSON."""
    path = Path(os.environ.get("CLIPCAP_PROGRAM", ROOT / "target/release/clipcap"))
    if not path.exists():
        pytest.skip(f"{path} is not there: build it by `cargo build --release`")

    def run(command, *arguments):
        line = [path, command, "--device", "cpu", "--format", "jsonl", *arguments]
        ended = subprocess.run(line, cwd=desk, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr
        return [json.loads(line) for line in ended.stdout.splitlines()]

    return run


@pytest.fixture(scope="session")
def told(program):
    """What the program says of images of the sample's test part, which it writes where there are none."""
    return program("infer")


@pytest.fixture(scope="session")
def scenes(told, desk):
    """Those images."""
    return [desk / line["image"] for line in told]
