"""What the machine and a process say of themselves: CPU time, memory, disk, page cache, and who the machine is.

Knows no engine and no data set.
"""

import os
import platform
import time

MIB = 1 << 20


def cpu_s(pid):
    """CPU seconds of a process, user and system, ended threads included, to the nanosecond.

    The clock id is Linux's MAKE_PROCESS_CPUCLOCK(pid, CPUCLOCK_SCHED): what clock_getcpuclockid returns.
    """
    return time.clock_gettime((~pid << 3) | 2)


def memory(pid):
    """Resident bytes of a process: now, and at most since the last `reset_peak`."""
    found = {}
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as status:
        for line in status:
            if line.startswith(("VmHWM:", "VmRSS:")):
                name, value = line.split(":")
                found[name] = int(value.split()[0]) * 1024
    return {"now": found["VmRSS"], "peak": found["VmHWM"]}


def reset_peak(pid):
    """Lets the peak of resident memory begin anew."""
    try:
        with open(f"/proc/{pid}/clear_refs", "w", encoding="ascii") as file:
            file.write("5")
    except OSError:
        pass  # A kernel without it: the peak is then that of the process's whole life.


def files(path):
    """All files at or below a path."""
    if os.path.isfile(path):
        return [path]
    return [os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names]


def disk_bytes(path):
    """Bytes that files at or below a path take on the disk."""
    total = 0
    for name in files(path):
        try:
            total += os.lstat(name).st_blocks * 512
        except OSError:
            pass  # Removed meanwhile.
    return total


def evict(path):
    """Drops the clean pages of files at or below a path from the page cache; nobody else's."""
    for name in files(path):
        try:
            handle = os.open(name, os.O_RDONLY)
        except OSError:
            continue
        try:
            os.fsync(handle)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        except OSError:
            pass  # The figure is then less cold; it is only shown beside the warm one.
        finally:
            os.close(handle)


class Others:
    """What share of the machine was used by others between two points."""

    def __init__(self):
        self.before = self._machine()

    @staticmethod
    def _machine():
        with open("/proc/stat", encoding="ascii") as stat:
            ticks = [int(word) for word in stat.readline().split()[1:9]]
        total = sum(ticks) / os.sysconf("SC_CLK_TCK")
        idle = (ticks[3] + ticks[4]) / os.sysconf("SC_CLK_TCK")
        return total - idle, total

    def share(self, ours_s):
        """0 to 1; `None` when too little time has passed to say."""
        busy, total = (after - before for after, before in zip(self._machine(), self.before))
        return max(0.0, (busy - ours_s) / total) if total > 0.02 else None


def machine():
    """What a reader must know to judge the figures."""
    model = "unknown"
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as info:
        for line in info:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(pages / (1 << 30), 1),
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
    }
