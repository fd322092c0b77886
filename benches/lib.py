"""What the measuring scripts share.

A *subject* is an engine with docker's command line, run by an ordinary user in a place of its own: on this machine's
system or in another root (a newer Debian with a newer podman). In each place one long-lived worker starts and times the
commands, so that getting there is in no figure. Subjects take turns, command by command, so that whatever else the
machine does hits all of them alike: read the ratios, not the milliseconds.
"""
import collections
import json
import os
import platform
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.environ.get("BENCH_ROOT", "/var/tmp/coracle-bench")
REGISTRY = "127.0.0.1:" + os.environ.get("BENCH_PORT", "5055")
TINY, DEBIAN, NETWORK = (f"{REGISTRY}/bench/{name}:gz" for name in ("tiny", "debian", "network"))

# Runs in the subject's place. One request per line; `quiet` commands are spawned with /dev/null and measured to the
# microsecond with the CPU time of all they waited for; others have their output captured; `many` is a list that is
# started at once.
WORKER = r"""
import json, os, subprocess, sys, time
null = os.open("/dev/null", os.O_RDWR)
quiet = [(os.POSIX_SPAWN_DUP2, null, fd) for fd in (0, 1, 2)]
def spawn(argv): return os.posix_spawnp(argv[0], argv, os.environ, file_actions=quiet)
for line in sys.stdin:
    request = json.loads(line)
    answer = {"out": "", "err": "", "cpu": 0}
    begin = time.perf_counter()
    try:
        if "many" in request:
            pids = [spawn(argv) for argv in request["many"]]
            answer["code"] = max(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != 0 for pid in pids)
        elif request.get("quiet"):
            _, status, usage = os.wait4(spawn(request["argv"]), 0)
            answer.update(code=os.waitstatus_to_exitcode(status), cpu=usage.ru_utime + usage.ru_stime)
        else:
            done = subprocess.run(request["argv"], stdin=null, capture_output=True, text=True, errors="replace")
            answer.update(code=done.returncode, out=done.stdout, err=done.stderr[-2000:])
    except OSError as error:
        answer.update(code=127, err=str(error))
    answer["time"] = time.perf_counter() - begin
    print(json.dumps(answer), flush=True)
"""


class Place:
    """Where commands are run: "host", or the path of a root."""

    known = {}

    def __init__(self, root):
        self.root = root
        enter = [os.path.join(HERE, "enter"), root, "python3" if root != "host" else "/usr/bin/python3", "-c", WORKER]
        self.worker = subprocess.Popen(enter, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    @classmethod
    def at(cls, root):
        if root not in cls.known:
            cls.known[root] = cls(root)
        return cls.known[root]

    def ask(self, **request):
        self.worker.stdin.write(json.dumps(request) + "\n")
        self.worker.stdin.flush()
        answer = self.worker.stdout.readline()
        if not answer:
            sys.exit(f"the worker in {self.root} has ended")
        return json.loads(answer)


class Subject:
    """NAME=PLACE:COMMAND, with further words of the command separated by commas."""

    def __init__(self, text):
        self.name, rest = text.split("=", 1)
        place, command = rest.split(":", 1)
        self.place, self.words = Place.at(place), command.split(",")
        self.is_podman = os.path.basename(self.words[0]) == "podman"
        self.is_docker = os.path.basename(self.words[0]) == "docker"
        self.version = self.must("--version")["out"].strip()

    def argv(self, *words):
        return [*self.words, *words]

    def run(self, *words, quiet=False):
        return self.place.ask(argv=self.argv(*words), quiet=quiet)

    def must(self, *words, quiet=False):
        answer = self.run(*words, quiet=quiet)
        if answer["code"]:
            sys.exit(f"{self.name}: {' '.join(words)}: {answer['code']} {answer['err']}")
        return answer

    def pull(self, image):
        insecure = ["--tls-verify=false"] if self.is_podman else []
        return self.must("pull", "-q", *insecure, image, quiet=True)

    def clear(self):
        """No container and no image."""
        self.run("rm", "-f", "-t", "0", "-a")
        images = self.run("images", "-q")["out"].split()
        if images:
            self.run("rmi", "-f", *dict.fromkeys(images))


def subjects():
    chosen = os.environ.get("SUBJECTS", "").split()
    if not chosen:
        sys.exit("name the engines in SUBJECTS, for example SUBJECTS='coracle=host:/usr/local/bin/coracle podman=host:podman'")
    return [Subject(text) for text in chosen]


def interleave(cases, rounds, warm=1):
    """Calls each case in turn, `rounds` times after `warm` that do not count. Name to the answers that succeeded."""
    results = collections.defaultdict(list)
    for number in range(rounds + warm):
        for name, case in cases.items():
            answer = case()
            if answer["code"]:
                print(f"! {name}: {answer['code']} {answer['err'].strip()[-300:]}", file=sys.stderr)
            elif number >= warm:
                results[name].append(answer)
    return results


def median(answers, key="time"):
    return statistics.median(answer[key] for answer in answers) if answers else float("nan")


def table(title, head, rows):
    print(f"\n## {title}\n\n| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for row in rows:
        print(f"| {' | '.join(map(str, row))} |")
    sys.stdout.flush()


def ms(seconds):
    return f"{seconds * 1000:.1f}"


def time_table(title, results, base=None):
    """Median, least and greatest of each case; `base` names the case that the ratios are to."""
    reference = median(results[base]) if base else None
    rows = []
    for name, answers in results.items():
        if not answers:
            continue
        times = [answer["time"] for answer in answers]
        ratio = f"{median(answers) / reference:.2f}" if reference else "-"
        rows.append((name, ms(median(answers)), ms(min(times)), ms(max(times)), ms(median(answers, "cpu")), ratio, len(times)))
    table(title, ("case", "median ms", "min", "max", "cpu", f"× {base}" if base else "ratio", "n"), rows)


def machine(subjects):
    pressure = "-"
    try:
        with open("/proc/pressure/cpu") as file:
            pressure = file.read().split("avg60=")[1].split()[0]
    except OSError:
        pass
    print(f"{os.cpu_count()} cores, {platform.release()}, CPU pressure of the last minute {pressure} %")
    for subject in subjects:
        print(f"{subject.name} = {subject.version}")


def processes():
    """pid -> (name, command line) of the processes that were started through `enter`: by their cgroup."""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cgroup") as file:
                if "/coracle-bench" not in file.read():
                    continue
            with open(f"/proc/{pid}/comm") as comm, open(f"/proc/{pid}/cmdline") as line:
                found[int(pid)] = comm.read().strip(), line.read().replace("\0", " ").strip()
        except OSError:
            pass
    return found


def pss(pid):
    """KiB of memory that are this process's share (proc_pid_smaps(5))."""
    try:
        with open(f"/proc/{pid}/smaps_rollup") as file:
            return sum(int(line.split()[1]) for line in file if line.startswith("Pss:"))
    except OSError:
        return 0
