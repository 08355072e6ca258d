"""What people wrote in 2024: limits by their old names, classes with hooks."""

import os
import time

import modal

app = modal.App("snippets-2024")

image = modal.Image.debian_slim().env({"GREETING": "hi"})


@app.function(image=image, concurrency_limit=2, container_idle_timeout=30)
def square(x):
    return x * x


@app.function(image=image)
def greeting():
    return os.environ["GREETING"]


@app.function(keep_warm=1)
def warm():
    return os.environ["MODAL_TASK_ID"]


@app.function(allow_concurrent_inputs=4, concurrency_limit=1)
def at_once(number):
    time.sleep(1)
    return os.environ["MODAL_TASK_ID"]


@app.function()
def count(to):
    yield from range(to)


@app.function()
def fail():
    raise ValueError("as it was in 2024")


@app.function(secrets=[modal.Secret.from_dict({"GIVEN": "in place"})], timeout=60)
def secret():
    return os.environ["GIVEN"]


@app.cls(concurrency_limit=1)
class Model:
    @modal.enter()
    def load(self):
        self.weight = 3

    @modal.method()
    def predict(self, x):
        return self.weight * x

    @modal.exit()
    def unload(self):
        print("unloaded")


@app.local_entrypoint()
def main(name: str = "nobody"):
    from proof import part, raises, wait_until

    with part("arguments"):
        assert name == "Ada"
    with part("remote"):
        assert square.remote(7) == 49
        assert square.local(7) == 49
    with part("map"):
        assert list(square.map(range(20))) == [x * x for x in range(20)]
        assert sorted(square.map(range(5), order_outputs=False)) == [0, 1, 4, 9, 16]
        assert list(square.starmap([(2,), (3,)])) == [4, 9]
    with part("spawn"):
        assert square.spawn(9).get() == 81
    with part("generator"):
        assert list(count.remote_gen(5)) == [0, 1, 2, 3, 4]
    with part("exception"):
        with raises(ValueError, containing="as it was"):
            fail.remote()
    with part("env of an image"):
        assert greeting.remote() == "hi"
    with part("secret from a dict"):
        assert secret.remote() == "in place"
    with part("method"):
        assert Model().predict.remote(4) == 12
    with part("keep_warm"):
        running = lambda: warm.get_current_stats().num_total_runners
        wait_until(lambda: running() >= 1, "a container without a call")
        assert warm.remote().startswith("ta-")
    with part("keep_warm changed"):
        warm.keep_warm(2)
        wait_until(lambda: running() == 2, "a second container")
    with part("allow_concurrent_inputs"):
        at_once.remote(0)
        begin = time.monotonic()
        assert len(set(at_once.map(range(4)))) == 1
        assert time.monotonic() - begin < 3.5
