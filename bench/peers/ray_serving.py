"""The model of `serving_model.py` behind Ray Serve, a replica per core.

    python bench/peers/ray_serving.py PORT

The model's file is named by BENCH_MODEL. Says `ready` once it answers, and runs until its
standard input ends.
"""

import os
import sys

import joblib
import ray
from ray import serve


@serve.deployment(num_replicas=2, max_ongoing_requests=16, ray_actor_options={"num_cpus": 1})
class Classifier:
    def __init__(self, path):
        self.model = joblib.load(path)

    async def __call__(self, request):
        question = await request.json()
        answers = []
        for row in self.model.predict_proba(question["texts"]):
            best = int(row.argmax())
            answers.append({"label": str(self.model.classes_[best]), "probability": float(row[best])})
        return {"predictions": answers}


def main():
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100 << 20)
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
    serve.run(Classifier.bind(os.environ["BENCH_MODEL"]), route_prefix="/predict")
    print("ready", flush=True)
    sys.stdin.read()
    ray.shutdown()


if __name__ == "__main__":
    main()
