"""A real Slurm on one machine: munged, slurmctld, one slurmd that claims 4 GPUs. Loopback only, no systemd.

Everything lies in one temporary folder. Programs find it by SLURM_CONF; since the executor plugin drops that variable
before its inner srun, `bin/srun` in front of PATH sets it again.
"""

import contextlib
import getpass
import os
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from working_folder import wait_for

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "scontrol", "sinfo")
SEARCH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
GPUS = 4

CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
CredType=cred/munge
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmctldPort={ctld_port}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
KillWait=3
MinJobAge=300
JobRequeue=1
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_min_interval=0,sched_interval=1,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
GresTypes=gpu
NodeName=nid1 NodeHostname={host} NodeAddr=127.0.0.1 Port={d_port} CPUs=128 Boards=1 SocketsPerBoard=1 \
CoresPerSocket=64 ThreadsPerCore=2 RealMemory=229376 Gres=gpu:a100:{gpus} Feature=gpu,hbm80g State=UNKNOWN
PartitionName=gpu Nodes=ALL Default=YES MaxTime=2-00:00:00 DefaultTime=00:10:00 OverSubscribe=NO State=UP
"""


def missing_here() -> list[str]:
    """Why no Slurm can be started here: programs that are not installed, rights that are not given."""
    rights = [] if os.geteuid() == 0 else ["root, who may make the device files of fake GPUs"]
    return [name for name in PROGRAMS if shutil.which(name, path=SEARCH) is None] + rights


class Cluster:
    """Started on entering, stopped by process id on leaving."""

    def __enter__(self) -> "Cluster":
        self.folder = Path(tempfile.mkdtemp(prefix="slurm"))    # short: sockets have paths of at most 107 characters
        self._pids: list[int] = []
        try:
            self._write()
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    @property
    def environment(self) -> dict[str, str]:
        """What programs need to find this cluster."""
        return {"SLURM_CONF": str(self.folder / "slurm.conf"), "PATH": f"{self.folder}/bin{os.pathsep}{SEARCH}"}

    def command(self, *words: str) -> str:
        """Run one of Slurm's programs; return what it prints."""
        return subprocess.run(words, env={**os.environ, **self.environment}, text=True, capture_output=True, check=True,
                              timeout=30).stdout

    def queue(self, what: str = "%i %T") -> list[str]:
        """One line a job, of those queued and running."""
        return self.command("squeue", "-h", "-o", what).splitlines()

    def cancel_all(self) -> None:
        """Leave an empty queue."""
        self.command("scancel", "--user", getpass.getuser())
        wait_for(lambda: not self.queue(), "an empty queue")

    def stop(self) -> None:
        """End what was started, the last one first, by process id."""
        for pid in reversed(self._pids):
            _end(pid)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _write(self) -> None:
        folder = self.folder
        for name in ("state", "spool", "bin"):
            (folder / name).mkdir()
        (folder / "munge.key").write_bytes(os.urandom(1024))
        (folder / "munge.key").chmod(0o400)
        values = {"folder": folder, "user": getpass.getuser(), "host": socket.gethostname().partition(".")[0],
                  "ctld_port": _free_port(), "d_port": _free_port(), "gpus": GPUS}
        (folder / "slurm.conf").write_text(CONF.format(**values))
        for gpu in range(GPUS):
            os.mknod(folder / f"nvidia{gpu}", 0o666 | stat.S_IFCHR, os.makedev(1, 3))    # clones of /dev/null
        (folder / "gres.conf").write_text(f"NodeName=nid1 Name=gpu Type=a100 File={folder}/nvidia[0-{GPUS - 1}]\n")
        (folder / "cgroup.conf").write_text("CgroupAutomount=no\nConstrainCores=no\nConstrainDevices=no\n")
        srun = folder / "bin/srun"
        srun.write_text(f"#!/bin/sh\nSLURM_CONF={folder}/slurm.conf exec {shutil.which('srun', path=SEARCH)} \"$@\"\n")
        srun.chmod(0o755)

    def _start(self) -> None:
        folder = self.folder
        self._spawn("munged", "--foreground", "--force", f"--socket={folder}/munge.sock",
                    f"--key-file={folder}/munge.key", f"--pid-file={folder}/munged.pid",
                    f"--log-file={folder}/munged.log", f"--seed-file={folder}/munged.seed")
        wait_for((folder / "munge.sock").exists, "a socket of munged")
        self._controller = self._spawn("slurmctld", "-D")
        self._spawn("slurmd", "-D", "-N", "nid1")
        wait_for(self._idle, f"an idle node; see {folder}/*.log")

    @contextlib.contextmanager
    def outage(self) -> Iterator[None]:
        """The controller is down inside; it comes back with its jobs."""
        _end(self._controller)
        self._pids.remove(self._controller)
        yield
        self._controller = self._spawn("slurmctld", "-D")
        wait_for(self._answers, "an answer of the controller")

    def _answers(self) -> bool:
        return "is UP" in subprocess.run(["scontrol", "ping"], env={**os.environ, **self.environment}, text=True,
                                         capture_output=True, check=False).stdout

    def _spawn(self, *words: str) -> int:
        with (self.folder / f"{words[0]}.out").open("wb") as out:
            process = subprocess.Popen(words, env={**os.environ, **self.environment}, stdout=out, stderr=out,
                                       stdin=subprocess.DEVNULL, start_new_session=True)
        self._pids.append(process.pid)
        return process.pid

    def _idle(self) -> bool:
        try:
            return self.command("sinfo", "-h", "-o", "%t").strip() == "idle"
        except subprocess.CalledProcessError:
            return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _end(pid: int) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.kill(pid, number)
            for _ in range(50):
                if os.waitpid(pid, os.WNOHANG)[0]:
                    return
                time.sleep(0.1)
        except (ProcessLookupError, ChildProcessError):
            return
