"""Prints one line per behaviour, for both Python clients."""

import sys
import time

# For what happens at once, on a machine busy with other tests.
PROMPT = 5.0
# A client that streams keeps a few rows and one large parameter in memory, not the result.
PEAK_KIB = 300 * 1024


class Report:
    """Prints `ok name detail` or `FAILED name: why`, and remembers failures for the exit code."""

    def __init__(self):
        self.failed = False

    def ok(self, name, detail):
        print(f"ok {name} {detail or ''}".rstrip(), flush=True)

    def fail(self, name, error):
        self.failed = True
        text = " ".join(str(error).split())
        print(f"FAILED {name}: {type(error).__name__}: {text}", flush=True)

    def absent(self, name, why):
        print(f"absent {name}: {why}", flush=True)

    def exit(self):
        sys.exit(1 if self.failed else 0)


def check(condition, why):
    """An assert that no interpreter option disables."""
    if not condition:
        raise AssertionError(why)


def peak_memory():
    """The most memory that this process ever had, in KiB. Fails if that is too much for a client that streams."""
    # Not getrusage, which includes the memory of the parent at the fork.
    with open("/proc/self/status") as status:
        peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
    check(peak < PEAK_KIB, f"this client needed {peak} KiB")
    return peak


def large_parameter():
    """A value larger than every buffer on the way."""
    return bytes(i * 31 % 251 for i in range(65536)) * 256


class Prompt:
    """Measures one step; `ms()` fails if it took too long."""

    def __init__(self):
        self.started = time.monotonic()

    def ms(self):
        took = time.monotonic() - self.started
        check(took < PROMPT, f"only after {took:.1f} s")
        return round(took * 1000)
