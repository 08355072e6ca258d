"""Files become a data set, a trained model and an endpoint.

python examples/train_and_deploy.py TRAIN.jsonl TEST.jsonl
"""

import sys

import corral

train_file, test_file = sys.argv[1:]
client = corral.connect()
questions = client.datasets.create("example-questions", {"train": train_file, "test": test_file})
for split in questions.splits:
    print(f"{split.name}: {split.rows} rows")

# The job runs on the server: Ctrl-C leaves it running and says how to come back.
job = client.train("example-questions", dataset=questions, trials=6).wait()
model = client.models.show(job.model)
print(f"{model.reference}: accuracy {model.metrics['test']['accuracy']:.3f} on the split test")

report = client.models.report(model)
print("what would help most:", report.advice[0])

endpoint = client.deploy(model)
for text in ["Who wrote Hamlet ?", "Where is the Louvre ?", "How many moons has Mars ?"]:
    prediction = client.predict(endpoint.name, text, top_k=3)
    print(f"{text}  {prediction.label}  {prediction.probability:.2f}")
