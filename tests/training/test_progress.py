"""The progress bar in a kernel, a terminal and a pipe, and Kernel -> Interrupt in a real kernel."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import nbformat
import pytest
from nbclient import NotebookClient

from zoo_lessons.training.progress import WIDGET_VIEW, in_notebook, progress_bar

SLOW_RUN = """
import time, torch
from zoo_lessons.training import fit
model = torch.nn.Linear(2, 1)
def loss_fn(model, batch):
    time.sleep({seconds})
    return model(batch).pow(2).mean()
history = fit(model, [torch.ones(3, 2)], loss_fn, steps={steps}, device="cpu")
print(len(history), history.interrupted)
"""


def notebook_client(code: str) -> NotebookClient:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    return NotebookClient(notebook, timeout=120, kernel_name="python3")


def test_a_notebook_keeps_only_a_widget_view_and_nothing_on_stderr():
    client = notebook_client(SLOW_RUN.format(seconds=0.02, steps=20))
    outputs = client.execute().cells[0].outputs
    assert [output.output_type for output in outputs] == ["display_data", "stream"]
    assert set(outputs[0].data) == {WIDGET_VIEW}
    assert (outputs[1].name, outputs[1].text) == ("stdout", "20 False\n")


def test_kernel_interrupt_ends_the_cell_with_a_history():
    client = notebook_client(SLOW_RUN.format(seconds=0.02, steps=5000))

    def interrupt_once_running():
        while client.kc is None or not client.nb.cells[0].outputs:
            time.sleep(0.05)
        time.sleep(0.5)
        os.kill(client.km.provisioner.pid, 2)

    thread = threading.Thread(target=interrupt_once_running)
    thread.start()
    outputs = client.execute().cells[0].outputs
    thread.join()
    printed = "".join(output.text for output in outputs if output.output_type == "stream")
    steps, interrupted = printed.split()
    assert 0 < int(steps) < 5000
    assert interrupted == "True"
    assert not [output for output in outputs if output.get("name") == "stderr"]


def test_a_pipe_gets_no_bar():
    code = SLOW_RUN.format(seconds=0.02, steps=10)
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    assert run.stdout == "10 False\n"
    assert run.stderr == ""


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_a_terminal_shows_steps_and_loss():
    import pty
    import termios

    main, sub = pty.openpty()
    termios.tcsetwinsize(sub, (24, 80))
    code = SLOW_RUN.format(seconds=0.05, steps=10)
    run = subprocess.Popen([sys.executable, "-c", code], stderr=sub, stdout=subprocess.DEVNULL)
    os.close(sub)
    text = b""
    while True:
        try:
            chunk = os.read(main, 4096)
        except OSError:  # the other end is closed
            break
        if not chunk:
            break
        text += chunk
    os.close(main)
    assert run.wait() == 0
    assert b"/10" in text and b"loss " in text


def test_disabled_outside_a_kernel():
    assert not in_notebook()
    with progress_bar(3, enabled=False) as bar:
        bar.step(1.0)
