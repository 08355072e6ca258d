"""A pandas data frame becomes a classifier, and its answers a data frame.

python examples/from_pandas.py
"""

import pandas

import corral

frame = pandas.DataFrame(
    {
        "subject": [
            f"{opening} {topic} number {number}"
            for number in range(40)
            for opening in ("the invoice was", "my parcel has", "the app")
            for topic in (
                ["charged twice", "wrong again"]
                if opening == "the invoice was"
                else ["arrived late", "got lost"]
                if opening == "my parcel has"
                else ["crashes on start", "shows an error"]
            )
        ],
    }
)
queues = {"the invoice": "billing", "my parcel": "shipping", "the app": "technical"}
frame["queue"] = [
    next(queue for start, queue in queues.items() if subject.startswith(start))
    for subject in frame["subject"]
]

client = corral.connect()
tickets = client.datasets.create(
    "example-tickets", frame, text="subject", label="queue", draw={"test": 0.2}
)
print(f"{tickets.rows} rows, {len(tickets.classes)} classes")

job = client.train("example-support", dataset=tickets, trials=4).wait()
client.deploy(job.model)

questions = pandas.Series(["my parcel got lost", "an error in the app"], index=["first", "second"])
answers = client.predict("example-support", questions)
print(answers.to_pandas()[["text", "label"]])

trials = job.runs().to_pandas().sort_values("accuracy", ascending=False)
print(trials[["name", "accuracy"]].to_string(index=False))
