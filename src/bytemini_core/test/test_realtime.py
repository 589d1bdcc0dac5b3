"""In processes of their own: what is tested changes the whole process."""

import subprocess
import sys

import pytest


def run(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_every_thread_of_the_process_hurries_where_that_is_permitted():
    words = run(
        "import os, threading\n"
        "from pathlib import Path\n"
        "from bytemini_core.realtime import hurry\n"
        "over = threading.Event()\n"
        "threading.Thread(target=over.wait).start()\n"
        "print(hurry(5) or {os.sched_getscheduler(int(t.name)) for t in Path('/proc/self/task').iterdir()})\n"
        "over.set()\n"
    )
    if "not permitted" in words:
        assert "limits.conf" in words
        pytest.skip("real-time priorities are not permitted here")
    assert words == "{1}"


def test_without_the_right_it_says_what_to_do():
    words = run(
        "import os\n"
        "from bytemini_core.realtime import hurry\n"
        "def refuse(*_): raise PermissionError\n"
        "os.sched_setscheduler = refuse\n"
        "print(hurry(5))\n"
    )
    assert words.startswith("real-time priority 5 is not permitted: ")
    assert "rtprio" in words


def test_what_is_settled_is_not_collected_again_but_new_garbage_is():
    words = run(
        "import gc\n"
        "from bytemini_core.realtime import settle\n"
        "settle()\n"
        "frozen = gc.get_freeze_count()\n"
        "a = []\n"
        "a.append(a)\n"
        "del a\n"
        "print(frozen > 1000, gc.collect() >= 1, len(gc.get_objects()) < frozen)\n"
    )
    assert words == "True True True"
