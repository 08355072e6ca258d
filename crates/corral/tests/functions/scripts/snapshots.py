"""A class that is started once, kept as it is then, and begun from there."""

import os
import time

import modal

app = modal.App("snapshots")


@app.cls(enable_memory_snapshot=True, scaledown_window=2)
class Model:
    @modal.enter(snap=True)
    def load(self):
        time.sleep(2)
        self.loaded_at = time.time()

    @modal.enter()
    def wake(self):
        self.container = os.environ["MODAL_TASK_ID"]

    @modal.method()
    def predict(self, x):
        return x * 3, self.container, self.loaded_at


@app.local_entrypoint()
def main():
    from proof import part

    with part("snapshot class"):
        result, first, loaded_at = Model().predict.remote(2)
        assert result == 6
    with part("snapshot is begun from"):
        # Loaded at the same moment: begun from the same snapshot.
        loads = {loaded_at: {first}}
        for _ in range(7):
            # Longer than the window, so that the next call finds no container.
            time.sleep(4)
            _, container, loaded_at = Model().predict.remote(3)
            loads.setdefault(loaded_at, set()).add(container)
            if len(loads[loaded_at]) > 1:
                break
        assert max(len(containers) for containers in loads.values()) > 1, loads
