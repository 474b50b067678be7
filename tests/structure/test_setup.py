"""tools/setup on a project of its own, without a network: made, left alone, noticed as broken, mended, refused.

The project has empty requirements and a build back-end of a few lines inside it, so that pip installs it from nothing;
the script and pip are the real ones. An environment takes seconds to make, so the first is kept, and where one is made
anew without the interpreter being the question, ``python -m venv`` is a copy of it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.structure.source import ROOT

PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "postroad"
version = "0.1.0"
"""
BACKEND = '''
"""The least that PEP 660 asks for."""
import zipfile
INFO = "postroad-0.1.0.dist-info"
FILES = {
    "postroad.pth": "SOURCE",
    f"{INFO}/entry_points.txt": "[console_scripts]\\npostroad = postroad:main\\n",
    f"{INFO}/METADATA": "Metadata-Version: 2.1\\nName: postroad\\nVersion: 0.1.0\\n",
    f"{INFO}/WHEEL": "Wheel-Version: 1.0\\nGenerator: own\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
}
def build_editable(directory, settings=None, metadata=None):
    name = "postroad-0.1.0-py3-none-any.whl"
    record = "".join(f"{file},,\\n" for file in [*FILES, f"{INFO}/RECORD"])
    with zipfile.ZipFile(f"{directory}/{name}", "w") as wheel:
        for file, text in {**FILES, f"{INFO}/RECORD": record}.items():
            wheel.writestr(file, text)
    return name
'''
pytestmark = pytest.mark.slow

NOTHING = "made nothing"
REAL = os.path.realpath(sys.executable)


class Project:
    """A checkout with the real tools/setup and nothing to download."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.venv = root / ".venv"
        self.kept = root.with_name("kept")
        self.quick = root.with_name("quick")  # an "interpreter" whose environments are copies of the kept one
        for directory in ("tools", "requirements", "src/postroad"):
            (root / directory).mkdir(parents=True)
        shutil.copy(ROOT / "tools" / "setup", root / "tools" / "setup")
        for name in ("run", "build", "test"):
            (root / "requirements" / f"{name}.txt").write_text("# none\n")
        (root / "pyproject.toml").write_text(PYPROJECT)
        (root / "backend.py").write_text(BACKEND.replace("SOURCE", str(root / "src")))
        (root / "src/postroad/__init__.py").write_text("def main(): print('here')\n")

    def environment(self, **more: str) -> dict[str, str]:
        """Ours, without what belongs to the tests."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
        return {
            **kept,
            "PYTHON": str(self.quick if self.quick.exists() else REAL),
            "PIP_NO_INDEX": "1",
            "TMPDIR": str(self.root.parent),
            **more,
        }

    def setup(self, purpose: str = "run", **more: str) -> subprocess.CompletedProcess[str]:
        command = [str(self.root / "tools" / "setup"), purpose]
        return subprocess.run(
            command, env=self.environment(**more), cwd="/", capture_output=True, text=True, timeout=120, check=False
        )

    def said(self, purpose: str = "run", **more: str) -> str:
        """Set up, insist that it went well, and that the environment works; return what was said."""
        done = self.setup(purpose, **more)
        assert (done.returncode, done.stderr) == (0, "")
        for name in ("python", "postroad"):
            subprocess.run(
                [self.venv / "bin" / name, "-c", "0"], env=self.environment(), check=True, capture_output=True
            )
        return done.stdout or NOTHING

    def keep(self) -> None:
        subprocess.run(["cp", "-a", self.venv, self.kept], check=True)
        copying = f'cp -a "{self.kept}/." .venv/ && rm .venv/.stamp-*'
        _program(self.quick, f'case "$*" in *"-m venv"*) {copying} ;; *) echo "$0" ;; esac\n')


def _program(path: Path, text: str) -> None:
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project(tmp_path_factory.mktemp("checkout") / "post road")  # a space, as in many a home directory
    said = project.said()
    assert f"made .venv with {REAL}" in said
    assert "installed postroad" in said
    project.keep()
    return project


@pytest.fixture
def made(project: Project) -> Project:
    """The project with an environment that is right, whatever the test before did to it."""
    project.said()
    return project


def stamp(project: Project, purpose: str = "run") -> float:
    return (project.venv / f".stamp-{purpose}").stat().st_mtime_ns


# --- right already -----------------------------------------------------------------------------------------


def test_the_second_run_does_nothing(made: Project) -> None:
    before = stamp(made)
    assert made.said() == NOTHING
    assert stamp(made) == before


def test_the_tests_leave_the_relay_as_it_is(made: Project) -> None:
    before = stamp(made)
    assert "installed the test tools" in made.said("test")
    assert made.said("test") == NOTHING
    assert made.said("run") == NOTHING
    assert stamp(made) == before


@pytest.mark.parametrize("name", ["requirements/run.txt", "requirements/build.txt", "pyproject.toml"])
def test_a_changed_requirement_is_installed(made: Project, name: str) -> None:
    made.said("test")
    with (made.root / name).open("a") as file:
        file.write("# changed\n")
    said = made.said("run")
    assert "installed the libraries" in said
    assert "made .venv" not in said
    assert made.said("run") == NOTHING


def test_a_changed_test_requirement_concerns_the_tests_alone(made: Project) -> None:
    made.said("test")
    with (made.root / "requirements/test.txt").open("a") as file:
        file.write("# changed\n")
    assert made.said("run") == NOTHING
    said = made.said("test")
    assert "installed the test tools" in said
    assert "installed the libraries" not in said


# --- half made or broken: noticed and mended ------------------------------------------------------------------


def interrupted(venv: Path) -> None:
    (venv / ".busy").touch()


def without_python(venv: Path) -> None:
    for name in ("python", "python3", f"python3.{sys.version_info.minor}"):
        (venv / "bin" / name).unlink(missing_ok=True)


def dangling_python(venv: Path) -> None:
    (venv / "bin" / "python").unlink()
    (venv / "bin" / "python").symlink_to("/nowhere/python3.11")


def upgraded_python(venv: Path) -> None:
    configuration = venv / "pyvenv.cfg"
    text = configuration.read_text()
    configuration.write_text(text.replace(f"version = 3.{sys.version_info.minor}.", "version = 3.8."))


def without_pip(venv: Path) -> None:
    for path in venv.glob("lib/python3*/site-packages/pip"):
        shutil.rmtree(path)


def only_a_directory(venv: Path) -> None:
    shutil.rmtree(venv)
    venv.mkdir()


def dangling_directory(venv: Path) -> None:
    shutil.rmtree(venv)
    venv.symlink_to("/nowhere/at/all")


@pytest.mark.parametrize(
    "damage",
    [interrupted, without_python, dangling_python, upgraded_python, without_pip, only_a_directory, dangling_directory],
    ids=lambda damage: damage.__name__,
)
def test_a_broken_environment_is_made_anew(made: Project, damage: object) -> None:
    assert callable(damage)
    made.said()
    damage(made.venv)
    said = made.said()
    assert "half made, broken or from elsewhere" in said
    assert "made .venv" in said
    assert made.said() == NOTHING


def test_a_project_that_was_taken_out_is_put_back(made: Project) -> None:
    (made.venv / "bin" / "postroad").unlink()
    said = made.said()
    assert "installed postroad" in said
    assert "made .venv" not in said


def test_a_checkout_that_moved_is_made_anew(made: Project) -> None:
    elsewhere = made.root.with_name("elsewhere")
    made.root.rename(elsewhere)
    try:
        done = subprocess.run(
            [elsewhere / "tools" / "setup"], env=made.environment(), capture_output=True, text=True, check=True
        )
        assert "from elsewhere" in done.stdout
        assert str(elsewhere) in (elsewhere / ".venv/bin/postroad").read_text()
    finally:
        shutil.rmtree(elsewhere / ".venv")
        elsewhere.rename(made.root)


def test_an_installation_that_fails_says_why_and_is_tried_again(made: Project) -> None:
    requirements = made.root / "requirements" / "run.txt"
    before = requirements.read_text()
    requirements.write_text("no-such-library==1 --hash=sha256:" + "0" * 64 + "\n")
    failed = made.setup()
    requirements.write_text(before)
    assert failed.returncode == 1
    assert "no-such-library" in failed.stderr
    assert "installing the libraries failed" in failed.stderr
    assert "made .venv" in made.said()  # who knows how far pip had come


def test_a_requirement_with_a_wrong_hash_is_refused(made: Project, tmp_path: Path) -> None:
    wheel = _wheel(made, tmp_path)
    requirements = made.root / "requirements" / "run.txt"
    before = requirements.read_text()
    requirements.write_text("postroad==0.1.0 --hash=sha256:" + "0" * 64 + "\n")
    failed = made.setup(PIP_FIND_LINKS=str(wheel.parent), PIP_FORCE_REINSTALL="1")
    requirements.write_text(before)
    assert failed.returncode == 1
    assert "DO NOT MATCH THE HASHES" in failed.stderr


def _wheel(project: Project, directory: Path) -> Path:
    code = f"import backend; print(backend.build_editable({str(directory)!r}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=project.root, capture_output=True, text=True, check=True)
    return directory / done.stdout.strip()


def test_two_at_once_wait_for_each_other(made: Project) -> None:
    interrupted(made.venv)
    command = [str(made.root / "tools" / "setup")]
    both = [
        subprocess.Popen(command, env=made.environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(2)
    ]
    said = sorted(process.communicate(timeout=120)[0] for process in both)
    assert [process.returncode for process in both] == [0, 0]
    assert sum("made .venv" in text for text in said) == 1
    assert made.said() == NOTHING


def test_without_flock_a_directory_is_the_lock(made: Project, tmp_path: Path) -> None:
    """Its owner died: the lock is taken from it, and nothing is left behind."""
    interrupted(made.venv)
    dead = subprocess.Popen(["true"])
    dead.wait()
    lock = made.root / ".venv-lock"
    lock.mkdir()
    (lock / "pid").write_text(f"{dead.pid}\n")
    path = _commands(tmp_path, without="flock")
    assert "made .venv" in made.said(PATH=path)
    assert not lock.exists()


# --- the interpreter ----------------------------------------------------------------------------------------------


PROGRAMS = (
    "sh",
    "cat",
    "cmp",
    "cp",
    "date",
    "dirname",
    "env",
    "flock",
    "head",
    "id",
    "mkdir",
    "mktemp",
    "mv",
    "printf",
)
PROGRAMS += ("rm", "sleep", "tail")


def _commands(directory: Path, without: str = "") -> str:
    """A PATH that holds the programs the script needs, and no Python."""
    for name in PROGRAMS:
        if name != without and (found := shutil.which(name)):
            (directory / name).symlink_to(found)
    return str(directory)


def test_a_shim_is_looked_through(made: Project, tmp_path: Path) -> None:
    """What a shim does depends on the directory and the environment; the real interpreter behind it is taken."""
    path = _commands(tmp_path)
    _program(tmp_path / "python3", f'exec "{sys.executable}" "$@"\n')
    interrupted(made.venv)
    assert f"made .venv with {REAL}" in made.said(PATH=path, PYTHON="")
    assert (made.venv / "bin" / "python").resolve() == Path(REAL)


def test_an_interpreter_that_will_not_do_is_passed_over(made: Project, tmp_path: Path) -> None:
    """First in PATH stand a shim without a Python behind it and an old one; the next directory has a good one."""
    path = _commands(tmp_path)
    _program(tmp_path / "python3", "echo 'pyenv: python3: command not found' >&2\nexit 127\n")
    (tmp_path / "good").mkdir()
    (tmp_path / "good" / "python3").symlink_to(REAL)
    interrupted(made.venv)
    assert "made .venv" in made.said(PATH=f"{path}:{tmp_path / 'good'}", PYTHON="")


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("echo 'is Python 3.9; 3.11 is the oldest that will do' >&2; exit 1\n", "is Python 3.9"),
        ("echo /usr/bin/env-not-there; exit 0\n", "/usr/bin/env-not-there"),
    ],
    ids=["too old", "no binary behind it"],
)
def test_without_an_interpreter_the_one_command_is_told(
    made: Project, tmp_path: Path, program: str, reason: str
) -> None:
    """Not root: nothing is installed, and the person is told the one command that somebody who may has to type."""
    path = _commands(tmp_path, without="id")
    _program(tmp_path / "python3", program)
    _program(tmp_path / "id", "echo 1000\n")
    _program(tmp_path / "apt-get", "echo apt-get was called >&2; exit 1\n")
    interrupted(made.venv)
    done = made.setup(PATH=path, PYTHON="")
    assert done.returncode == 1
    commands = [line.strip() for line in done.stderr.splitlines() if "apt-get" in line]
    assert commands == ["apt-get install -y --no-install-recommends python3-venv"]
    assert "as root" in done.stderr
    assert reason in done.stderr
    assert "apt-get was called" not in done.stderr


def test_as_root_debian_is_asked_for_venv(made: Project, tmp_path: Path) -> None:
    """Root: apt-get brings the interpreter, without questions and waiting for another apt's lock; then all goes on."""
    path = _commands(tmp_path, without="id")
    _program(tmp_path / "id", "echo 0\n")
    called = tmp_path / "called"
    good = f'ln -s "{REAL}" "{tmp_path}/python3"'
    _program(
        tmp_path / "apt-get",
        f'echo "$DEBIAN_FRONTEND $*" >>"{called}"\ncase "$*" in *install*) /bin/{good};; esac\n',
    )
    interrupted(made.venv)
    assert "installing Debian's python3-venv" in made.said(PATH=path, PYTHON="")
    update, install = called.read_text().splitlines()
    assert update.startswith("noninteractive ")
    assert update.endswith(" update")
    assert "DPkg::Lock::Timeout" in install
    assert install.endswith("install -y --no-install-recommends python3-venv")


def test_a_named_interpreter_must_be_there(made: Project) -> None:
    interrupted(made.venv)
    done = made.setup(PYTHON="/nowhere/python3")
    assert (done.returncode, done.stderr) == (1, "setup: PYTHON=/nowhere/python3: there is no such program\n")
    assert "made .venv" in made.said()


def test_another_word_is_a_usage_error(made: Project) -> None:
    done = made.setup("walk")
    assert (done.returncode, done.stderr) == (2, "usage: tools/setup [run|test]\n")
