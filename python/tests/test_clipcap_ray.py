"""Ray, where it is installed, as far as that is quick: a stand-in for the program, and a local Ray. `prove.py` beside it takes the program itself."""

import json
import os
import stat
import sys

import pytest

pytest.importorskip("ray")
sys.path.insert(0, os.path.join(os.path.dirname(__file__), ".."))

import clipcap_ray  # noqa: E402

# Lists and makes shards as the program does, by the letters in their names: `bad` fails, `dies` is killed once.
STAND_IN = """#!{python}
import json, os, signal, sys
args = sys.argv[1:]
out = args[args.index("--output") + 1]
index, count = map(int, (args[args.index("--shard") + 1] if "--shard" in args else "0/1").split("/"))
names = [name for name in args[1:args.index("--output")]][index::count]
os.makedirs(out, exist_ok=True)
code = 0
for shard in names:
    base = os.path.join(out, os.path.basename(shard).removesuffix(".tar"))
    output, stats = base + ".jsonl", base + ".stats.json"
    if "--list-shards" in args:
        print(json.dumps(dict(shard=shard, output=output, stats=stats, finished=os.path.exists(output))))
    elif os.path.exists(output):
        continue
    elif "bad" in shard:
        code = 1
        print(f"error: {{shard}}: is not a whole tar file", file=sys.stderr)
        json.dump(dict(status="failed", reason=shard + ": is not a whole tar file"), open(stats, "w"))
    else:
        if "dies" in shard and not os.path.exists(base + ".died"):
            open(base + ".died", "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        with open(base + ".runs", "a") as runs:
            runs.write("x")
        json.dump(dict(status="finished", images=3, errors=dict(truncated=1)), open(stats, "w"))
        open(output, "w").write(os.environ.get("RAYON_NUM_THREADS", "") + "\\n")
sys.exit(code)
"""


@pytest.fixture
def program(tmp_path):
    path = tmp_path / "program"
    path.write_text(STAND_IN.format(python=sys.executable))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture
def call(program, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        args = [*arguments, "--output", "out", "--program", str(program), "--local-cpus", "2", "--every", "1"]
        try:
            return clipcap_ray.run(clipcap_ray.parse(args))
        finally:
            clipcap_ray.ray.shutdown()

    return call


def test_all_shards_are_made_by_tasks_with_their_threads(call, tmp_path, capsys):
    assert call("a.tar", "b.tar", "c.tar", "--shards-per-task", "2") == 0
    assert [(tmp_path / f"out/{name}.jsonl").read_text() for name in "abc"] == ["1\n"] * 3
    assert "3/3 shards (0 finished before, 0 failed), 9 images (3 with errors)" in capsys.readouterr().err


def test_a_program_that_is_killed_is_run_again_and_a_bad_shard_fails_by_name(call, tmp_path, capsys):
    assert call("a.tar", "dies.tar", "bad.tar") == 1
    said = capsys.readouterr().err
    assert f"failed: {tmp_path}/bad.tar: is not a whole tar file" in said
    assert (tmp_path / "out/dies.jsonl").exists()
    # Again: what was done is left alone.
    assert call("a.tar", "dies.tar", "bad.tar") == 1
    assert (tmp_path / "out/a.runs").read_text() == "x"
    assert "2/3 shards (2 finished before, 1 failed)" in capsys.readouterr().err


def test_a_program_that_is_always_killed_is_given_up(call, tmp_path, capsys, program):
    program.write_text(program.read_text().replace("if \"dies\" in shard and not", "if \"dies\" in shard or not"))
    assert call("a.tar", "dies.tar", "--retries", "1") == 1
    said = capsys.readouterr().err
    assert "given up after 2 tries: " in said and "ended by signal 9" in said


def test_what_the_program_says_of_its_arguments_ends_the_run(call, program):
    program.write_text(f"#!{sys.executable}\nimport sys\nsys.exit('error: no such model')\n")
    with pytest.raises(SystemExit, match="no such model"):
        call("a.tar")


def test_arguments_after_two_dashes_go_to_the_program():
    args = clipcap_ray.parse(["a.tar", "--output", "out", "--", "--device", "cpu"])
    assert (args.shards, args.more) == (["a.tar"], ["--device", "cpu"])
    assert json.dumps(args.num_cpus) == "1"
