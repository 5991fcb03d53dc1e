"""Clients that ask again and again, each on a connection of its own, until they are told to stop."""

import http.client
import threading
import time
from collections import Counter

from books import Books
from wire import Http1, whole


class Crowd:
    """So many clients. `seen` counts the statuses that they got; `None`: no answer, or not a whole one."""

    def __init__(self, books: Books, clients: int, fields: dict | None = None, pause: float = 0, **headers):
        self.books, self.fields, self.pause, self.headers = books, fields or {}, pause, headers
        self.seen: Counter = Counter()
        self.stopping = threading.Event()
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.run) for _ in range(clients)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self) -> Counter:
        self.stopping.set()
        for thread in self.threads:
            thread.join(60)
            assert not thread.is_alive(), "a client hangs"
        return self.seen

    def run(self) -> None:
        client = None
        while not self.stopping.is_set():
            status = None
            try:
                client = client or Http1(self.books.stack.port)
                answer, _ = client.ask(whole(self.books.key, self.books.body(**self.fields), **self.headers))
                status = answer.status
                if answer.will_close:
                    client = client.close()
            except (OSError, http.client.HTTPException):
                client = client and client.close()
                time.sleep(0.05)
            with self.lock:
                self.seen[status] += 1
            time.sleep(self.pause)
        if client:
            client.close()
