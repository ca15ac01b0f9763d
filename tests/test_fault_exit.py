"""Hazard: the program ends, and something is still unsaved."""

from __future__ import annotations

import errno
import gc
import marshal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

import redundict

from . import inside

#: A handler that is registered before redundict's own runs after it.
LATE = """
import atexit, os, sys
def late():
    {late}
atexit.register(late)
import redundict
{root}
path = sys.argv[1]
"""


def run(folder: Path, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program from a file, as `multiprocessing` needs it."""
    script = folder / "program.py"
    script.write_text(textwrap.dedent(program))
    return subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", str(script), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


#: What refers to the program until the interpreter's very end, and so keeps all modules alive.
ROOTS = {
    "nothing": "",
    "a hook": "sys.excepthook = lambda *_: late",
    "a fork handler": "os.register_at_fork(after_in_child=late)",
}


@pytest.mark.parametrize("root", ROOTS)
@pytest.mark.parametrize("options", ["", ", shared=True", ", autosync=100", ", format='csv'"])
def test_what_a_late_exit_handler_changes_is_saved(
    path: str, tmp_path: Path, options: str, root: str
) -> None:
    """The application's own exit handler may run after ours, and need not call sync."""
    begin = LATE.format(late='state["n"] = "late"', root=ROOTS[root])
    done = run(tmp_path, begin + f'state = redundict.open(path{options}); state["n"] = "1"', path)
    assert (done.returncode, done.stderr) == (0, "")
    assert redundict.load(path) == {"n": "late"}
    assert redundict.check(path).generation == 2


@pytest.mark.parametrize(
    "late",
    [
        'state["n"] = 2; state.sync(); state["n"] = 3',
        'state["n"] = 2; state.sync_soon().result(10); state["n"] = 3',
        'state["n"] = 3; state.close()',
        'state.close(); again = redundict.open(path); again["n"] = 3; globals()["kept"] = again',
        "with state.transaction(): state['n'] = 3",
        "state.modify(lambda s: s.update(n=3))",
    ],
)
def test_a_late_exit_handler_can_use_the_store(path: str, tmp_path: Path, late: str) -> None:
    """Each call works as before the exit, and what follows it is saved."""
    begin = LATE.format(late=late, root="")
    done = run(tmp_path, begin + 'state = redundict.open(path); state["n"] = 1', path)
    assert (done.returncode, done.stderr) == (0, "")
    assert redundict.load(path) == {"n": 3}
    redundict.open(path).close()


OWN_CLASS = """
class Own:
    def __reduce__(self):
        import fractions  # a module that nothing has imported before
        return Own, ()
state = redundict.open(path, format="pickle"); state["own"] = Own(); state["n"] = "1"
"""


@pytest.mark.parametrize("before", ["", "import gc; gc.disable()", "import gc; gc.freeze()"])
@pytest.mark.parametrize("late", ["pass", 'state["n"] = "late"'])
def test_objects_of_the_program_s_own_classes_are_saved_to_the_very_end(
    path: str, tmp_path: Path, late: str, before: str
) -> None:
    """Pickle needs the program's modules, and finds them. An unchanged state is no error."""
    done = run(tmp_path, LATE.format(late=late, root=before) + OWN_CLASS, path)
    assert (done.returncode, done.stderr) == (0, "")
    assert redundict.check(path).generation == (1 if late == "pass" else 2)


def test_what_a_late_exit_handler_makes_unstorable_is_reported(path: str, tmp_path: Path) -> None:
    """The error names the item, and the last state that could be saved loads."""
    begin = LATE.format(late='state["n"] = {1}', root="")
    done = run(tmp_path, begin + 'state = redundict.open(path); state["n"] = 1', path)
    assert done.stderr.count("not saved at exit") == 1
    assert "state['n']" in done.stderr
    assert redundict.load(path) == {"n": 1}


def test_a_closed_recipe_dict_that_a_late_exit_handler_changes_is_saved(
    path: str, tmp_path: Path
) -> None:
    """The recipe's dict can be used after close, up to the very end."""
    begin = LATE.format(late='state["n"] = 2', root="")
    done = run(
        tmp_path,
        begin + 'state = redundict.PermaDict(path); state["n"] = 1; state.close()',
        path,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert redundict.load(path) == {"n": 2}


FULL = """
import resource, signal
def full(limit=100_000):  # no file can grow beyond it, as on a full disk
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs RLIMIT_FSIZE")
def test_a_full_disk_at_exit_is_reported_once_and_the_other_store_is_saved(
    path: str, tmp_path: Path
) -> None:
    """The report names the store, what is safe, and comes in the log and as an event, too."""
    done = run(
        tmp_path,
        f"""
        import logging, sys, redundict
        {textwrap.indent(FULL, " " * 8).strip()}
        logging.basicConfig(format="log: %(message).40s", stream=sys.stdout)
        tell = lambda event: print("event:", event.kind, type(event.error).__name__)
        state = redundict.open(sys.argv[1], on_event=tell); state["n"] = 1; state.sync()
        other = redundict.open(sys.argv[1] + "2"); other["n"] = 1
        state["big"] = "x" * 200_000; full()
        """,
        path,
    )
    assert done.stderr.count("not saved at exit") == 1
    assert done.stderr.count("no copy could be written") == 1
    assert path in done.stderr
    assert "generation 1 stands" in done.stderr
    assert done.stdout.count("log: not saved") == done.stdout.count("event: failed Commit") == 1
    assert redundict.load(path) == {"n": 1}
    assert redundict.load(path + "2") == {"n": 1}
    redundict.repair(path)


@pytest.mark.skipif(sys.platform == "win32", reason="needs RLIMIT_FSIZE")
def test_a_late_exit_handler_that_frees_the_disk_saves_the_state(path: str, tmp_path: Path) -> None:
    """What could not be saved at exit is tried again at the very end."""
    begin = LATE.format(late="full(-1)", root=FULL)
    done = run(
        tmp_path,
        begin + 'state = redundict.open(path); state["big"] = "x" * 200_000; full()',
        path,
    )
    assert done.stderr.count("not saved at exit") == 1
    assert redundict.load(path) == {"big": "x" * 200_000}


def test_another_process_is_kept_out_until_the_late_exit_handlers_are_done(
    path: str, tmp_path: Path
) -> None:
    """The lock is held to the end, whatever filelock does with its locks at exit."""
    other = "import redundict, sys; redundict.open(sys.argv[1])"
    late = f"""
    import subprocess
    tried = subprocess.run([sys.executable, "-c", {other!r}, path], capture_output=True, text=True)
    print("LockedError" in tried.stderr)
    """
    begin = LATE.format(late=late, root="atexit.register(late)")
    done = run(tmp_path, begin + "state = redundict.open(path); state['n'] = 1", path)
    # The first handler runs before redundict's, and after that of filelock.
    assert (done.stdout, done.stderr) == ("True\nTrue\n", "")
    redundict.open(path).close()


def test_no_background_thread_commits_while_late_exit_handlers_run(
    path: str, tmp_path: Path
) -> None:
    """A daemon thread that is stopped in the middle of a commit could keep the last save out."""
    late = """
    import threading, time
    time.sleep(0.2)
    print([thread.name for thread in threading.enumerate()])
    """
    begin = LATE.format(late=late, root="")
    program = "state = redundict.open(path, autosync=0.01); state['n'] = 1"
    done = run(tmp_path, begin + program, path)
    assert (done.stdout, done.stderr) == ("['MainThread']\n", "")


WORKER = """
import multiprocessing, sys, redundict

def work(path, options, more):
    global state
    state = redundict.open(path, **options)
    state["n"] = 1
    if more:
        state.sync_soon()
        state["n"] = 2

if __name__ == "__main__":
    if "parent" in sys.argv:
        parents = redundict.open(sys.argv[1] + ".parent")
        parents["n"] = "of the parent"; parents.sync()
    options = {"autosync": 100} if "autosync" in sys.argv else {}
    arguments = sys.argv[1], options, "more" in sys.argv
    if "pool" in sys.argv:
        from concurrent.futures import ProcessPoolExecutor
        with ProcessPoolExecutor(1, multiprocessing.get_context(sys.argv[2])) as pool:
            pool.submit(work, *arguments).result()
    else:
        worker = multiprocessing.get_context(sys.argv[2]).Process(target=work, args=arguments)
        worker.start(); worker.join()
        sys.exit(worker.exitcode)
"""


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
@pytest.mark.parametrize(
    "how", [["parent"], ["autosync"], ["more"], ["pool"], ["parent", "pool", "more", "autosync"]]
)
def test_what_a_worker_of_multiprocessing_leaves_is_saved(
    path: str, tmp_path: Path, method: str, how: list[str]
) -> None:
    """A worker ends without exit handlers. Its stores are saved all the same, those alone."""
    if sys.platform == "win32" and method != "spawn":
        pytest.skip("needs fork")
    done = run(tmp_path, WORKER, path, method, *how)
    assert (done.returncode, done.stderr) == (0, "")
    assert redundict.load(path) == {"n": 2 if "more" in how else 1}
    if "parent" in how:
        assert redundict.load(path + ".parent") == {"n": "of the parent"}


def test_a_worker_s_own_finalizer_runs_before_its_stores_are_saved(
    path: str, tmp_path: Path
) -> None:
    """What an application finishes at the end of a worker is in the saved state."""
    program = WORKER.replace(
        'state["n"] = 1\n',
        'from multiprocessing.util import Finalize; state["n"] = 1\n'
        '    Finalize(None, state.update, kwargs={"last": True}, exitpriority=0)\n',
    )
    done = run(tmp_path, program, path, "spawn")
    assert (done.returncode, done.stderr) == (0, "")
    assert redundict.load(path) == {"n": 1, "last": True}


@pytest.mark.skipif(sys.platform == "win32", reason="needs RLIMIT_FSIZE")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_worker_that_cannot_save_says_so(path: str, tmp_path: Path, method: str) -> None:
    """The error names the store, as at the exit of a program."""
    program = WORKER.replace('state["n"] = 1\n', 'state["n"] = {1}\n')
    done = run(tmp_path, program, path, method)
    assert done.stderr.count("not saved at exit") == 1
    assert "state['n']" in done.stderr


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Let nothing be collected that is part of a cycle."""
    gc.disable()
    yield
    gc.enable()


def unraisable(patch: pytest.MonkeyPatch) -> list[type[BaseException]]:
    """Return a list of the types of errors that no caller could catch."""
    reported: list[type[BaseException]] = []
    patch.setattr(sys, "unraisablehook", lambda found: reported.append(found.exc_type))
    return reported


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("format", ["json", "csv", "pickle", marshal])
def test_a_dropped_store_whose_close_failed_lets_others_in(
    path: str, monkeypatch: pytest.MonkeyPatch, format: object
) -> None:
    """It cannot be saved, which is reported. Its lock is free at once, without the collector."""
    reported = unraisable(monkeypatch)
    state = redundict.open(path, format=format)
    state["n"] = lambda: None
    try:
        state.close()
    except redundict.UnstorableError:
        del state
    assert reported == [redundict.UnstorableError]
    redundict.open(path).close()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("call", ["create", "write", "sync_all", "rename"])
def test_a_dropped_store_without_a_disk_lets_others_in(
    path: str, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """The same for a store whose last commit the disk refused."""
    reported = unraisable(monkeypatch)
    state = redundict.open(path)
    state["n"] = 1
    with monkeypatch.context() as patch:
        inside.fail_on(patch, call, errno.ENOSPC)
        try:
            state.close()
        except redundict.CommitError:
            del state
    assert reported == [redundict.CommitError]
    redundict.open(path).close()
