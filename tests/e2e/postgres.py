"""A PostgreSQL server of the test's own, in a temporary folder, as a user that is not root."""

import os
import pathlib
import shutil
import subprocess
import tempfile

from stack import free_port


class Postgres:
    def __init__(self):
        programs = os.environ.get("TOLLGATE_POSTGRES_BIN")
        assert programs, "TOLLGATE_POSTGRES_BIN is not set: `make test` finds or installs PostgreSQL and sets it"
        self.programs = pathlib.Path(programs)
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="tollgate-e2e-postgres-"))
        self.data = self.folder / "data"
        self.port = free_port()
        # PostgreSQL refuses to be root.
        self.user = "nobody" if os.getuid() == 0 else None
        if self.user:
            shutil.chown(self.folder, self.user)
        self.run("initdb", "--auth=trust", "--username=tollgate", "--encoding=UTF8", "--no-sync", "-D", str(self.data))
        self.start()
        self.run("psql", "-h", str(self.folder), "-p", str(self.port), "-U", "tollgate", "-c", "CREATE DATABASE books", "postgres")

    def run(self, program: str, *arguments: str) -> None:
        command = [str(self.programs / program), *arguments]
        if self.user:
            command = ["setpriv", f"--reuid={self.user}", "--clear-groups", *command]
        subprocess.run(command, check=True, cwd="/", stdout=subprocess.DEVNULL, timeout=60)

    @property
    def url(self) -> str:
        return f"postgres://tollgate@127.0.0.1:{self.port}/books?sslmode=disable"

    def start(self) -> None:
        options = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1"
        self.run("pg_ctl", "start", "--wait", "--silent", "-D", str(self.data), "-l", str(self.folder / "log"), "-o", options)

    def stop(self, mode: str = "immediate") -> None:
        self.run("pg_ctl", "stop", "--wait", "--silent", "-m", mode, "-D", str(self.data))

    def close(self) -> None:
        if (self.data / "postmaster.pid").exists():
            self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
