"""The bare loop, in an interpreter with nothing else in it; prints loops per second.

What a warm child costs without any of our parts: the parent has compiled once, as a zygote has.
"""

import os
import sys
import time


def loop() -> None:
    """Fork, compile and exec a trivial source, read its output, wait."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(write, 1)
        exec(compile("pass", "<bare>", "exec"), {"__name__": "__main__"})
        sys.stdout.flush()
        os._exit(0)
    os.close(write)
    while os.read(read, 65536):
        continue
    os.close(read)
    os.wait4(pid, 0)


if __name__ == "__main__":
    compile("pass", "<warm>", "exec")
    count = int(sys.argv[1])
    for _ in range(100):
        loop()
    start = time.perf_counter()
    for _ in range(count):
        loop()
    print(count / (time.perf_counter() - start))
