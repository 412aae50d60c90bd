"""A toy third kind of work, in one file: a game in rounds, in which the edge halves a number until it is at most 1.

The device adds one between two rounds, so that a request is several exchanges with computing between them.
"""

import time

import numpy as np

from edgeinfer.bridge.device.client import Client, Compute, Exchange
from edgeinfer.bridge.edge.server import Server, Task
from edgeinfer.bridge.wire import tensors


class Work:
    """The edge's half, the user's half, and what makes them; `together` says which kind of stream is served."""

    models, idle, message_bytes = ("halve",), 5.0, 2**16

    def __init__(self, model="", threads=None, together=True, slow=0):
        self.together, self.slow, self.client = together, slow, None

    def edge(self, **options):
        return Server(self, **options)

    def connect(self, connection, *, first, limit=20, patience=60.0):
        self.client, self.first, self.limit, self.patience = Client(connection), first, limit, patience

    # On the edge.

    def warm_up(self):
        pass

    def ready(self, name, version):
        return True

    def describe(self, name):
        return tensors.service().ModelMetadataResponse(name=name, versions=["1"])

    def handlers(self, server):
        return ()

    def check(self, message, stream):
        values = tensors.arrays(message.inputs, message.raw_input_contents)
        if list(values) != ["n"] or values["n"].shape != (1,) or values["n"][0] < 0:
            raise ValueError("inputs: must be n, one number >= 0")
        return Task(
            message.model_name, message.id, int(values["n"][0]), key="halve", progress=stream and not self.together
        )

    def run(self, tasks, progress):
        for step in range(self.slow):
            time.sleep(0.05)
            progress(step + 1, self.slow)
        if any(task.payload == 13 for task in tasks):
            raise ArithmeticError("unlucky, and /secret")
        return [task.payload // 2 for task in tasks]

    def answer(self, job):
        return tensors.response("halve", job.payload.request, {"n": np.array([job.result])}, {}), {}

    # On the device.

    def script(self, number, request):
        value, rounds = self.first + number, 0
        while value > 1 and rounds < self.limit:
            value = yield Exchange(lambda asked=value: self.ask(request, asked))
            rounds += 1
            if value > 1:
                value = yield Compute(lambda had=value: had + 1 if had % 2 else had)
        return {"value": value, "rounds": rounds}

    def ask(self, request, value):
        message = tensors.request("halve", request, {"n": np.array([value])}, {})
        answer = self.client.connection.ask(self.client.connection.infer, message, self.patience)
        return int(tensors.arrays(answer.outputs, answer.raw_output_contents)["n"][0])

    def row(self, done):
        return done
