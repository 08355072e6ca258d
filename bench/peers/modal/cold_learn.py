"""scikit-learn imported by a function and by a class with a snapshot, in containers of one input
each."""

import modal

app = modal.App("bench-cold-learn")
image = modal.Image.debian_slim().pip_install("numpy", "scikit-learn")

with image.imports():
    import numpy
    import sklearn.linear_model


@app.function(image=image, single_use_containers=True, max_containers=1)
def learn():
    return str(sklearn.linear_model.LogisticRegression())


@app.cls(
    image=image, single_use_containers=True, max_containers=1, enable_memory_snapshot=True
)
class Snapshot:
    @modal.enter(snap=True)
    def load(self):
        self.weights = numpy.zeros(1000)

    @modal.method()
    def learn(self):
        return len(self.weights)


if __name__ == "__main__":
    app.deploy()
    print("{}")
