"""Runs a program on a terminal and types when it asks: terminal.py TYPED PROGRAM [ARGUMENT ...].

TYPED has Python's escapes; each line is typed after the next prompt. Prints what the terminal shows, then
the exit code and what the terminal is left like.
"""

import os
import pty
import subprocess
import sys
import termios

typed = sys.argv[1].encode().decode("unicode_escape").encode()
master, slave = pty.openpty()
program = subprocess.Popen(sys.argv[2:], stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
shown = b""
for line in typed.splitlines(keepends=True):
    seen = len(shown)
    while not shown[seen:].endswith(b": ") and b"fatal" not in shown[seen:]:
        shown += os.read(master, 4096)
    os.write(master, line)
code = program.wait()
flags = termios.tcgetattr(slave)[3]
os.write(slave, b"<end>")
while not shown.endswith(b"<end>"):
    shown += os.read(master, 65536)
print(shown.decode().replace("\r\n", "\n"))
echo, signals = bool(flags & termios.ECHO), bool(flags & termios.ISIG)
print(f"exit={code} echo={echo} signals={signals}")
