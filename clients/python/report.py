"""Printing one line per behaviour, for both Python clients."""

import sys
import time

# What must happen at once, on a machine busy with other tests.
PROMPT = 5.0
# A client that streams holds a few rows and one large parameter, not the result.
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
    """An assert that no interpreter option switches off."""
    if not condition:
        raise AssertionError(why)


def peak_memory():
    """The most memory this process ever had in KiB, refused when it cannot have streamed."""
    # Not getrusage: that counts what the parent had when it forked.
    with open("/proc/self/status") as status:
        peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
    check(peak < PEAK_KIB, f"this client needed {peak} KiB")
    return peak


def large_parameter():
    """One value bigger than every buffer on its way."""
    return bytes(i * 31 % 251 for i in range(65536)) * 256


class Prompt:
    """Measures one step; `ms()` refuses when it was not prompt."""

    def __init__(self):
        self.started = time.monotonic()

    def ms(self):
        took = time.monotonic() - self.started
        check(took < PROMPT, f"only after {took:.1f} s")
        return round(took * 1000)
