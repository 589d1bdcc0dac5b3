"""The command line: what is wrong is said in one line."""

import os
import socket
import subprocess
import sys

import pytest
from bytemini_panel.command import main


def test_help_needs_no_ros(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    assert "emergency stop" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--port", "70000"], "65535"),
        (["--port", "x"], "invalid int"),
        (["--robot", "v3"], "v3"),
        (["x"], "unrecognized"),
    ],
)
def test_bad_arguments_are_refused(arguments, reason, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert reason in capsys.readouterr().err


@pytest.mark.e2e
def test_a_port_that_is_taken_is_one_line_and_no_traceback(tmp_path):
    pytest.importorskip("bytemini_msgs.msg", reason="the workspace is not built: ./bytemini setup")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [
            sys.executable,
            "-c",
            "import sys; from bytemini_panel.command import main; sys.exit(main(sys.argv[1:]))",
        ]
        done = subprocess.run(
            [*command, "--port", str(port), "--host", "127.0.0.1"],
            env={**os.environ, "XDG_CONFIG_HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 2
    assert f"127.0.0.1:{port}" in done.stderr
    assert "choose another port" in done.stderr
    assert "Traceback" not in done.stderr
