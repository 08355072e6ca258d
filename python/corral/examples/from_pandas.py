"""A pandas data frame becomes a classifier, and its answers a data frame.

python examples/from_pandas.py
"""

import pandas

import corral

phrases = {
    "billing": ["the invoice was charged twice", "the invoice shows a wrong price"],
    "shipping": ["my parcel has arrived late", "my parcel got lost on the way"],
    "technical": ["the app crashes on start", "the app shows an error"],
}
frame = pandas.DataFrame(
    [
        {"subject": f"{phrase}, ticket {number}", "queue": queue}
        for number in range(40)
        for queue, texts in phrases.items()
        for phrase in texts
    ]
)

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
