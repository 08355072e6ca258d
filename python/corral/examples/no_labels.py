"""A classifier without a single labelled row: a taxonomy that says what its classes are about.

python examples/no_labels.py
"""

import corral

client = corral.connect()
desks = client.taxonomies.create(
    "example-desks",
    {
        "sport": "football, tennis, matches, teams, players, goals, champions and the league",
        "business": "markets, shares, banks, companies, profits, prices, trade and the economy",
        "science": "research, space, planets, physics, biology, medicine, experiments, discoveries",
    },
)
print(f"{desks.reference}: {', '.join(entry.name for entry in desks.classes)}")

job = client.train("example-desks", taxonomy=desks, trials=4, encoder="none").wait()
client.deploy(job.model)

headlines = [
    "The league champions lost two matches and their best players",
    "Banks and companies fear for their profits as prices rise",
    "Experiments in space tell physics more of the planets",
]
for headline, prediction in zip(headlines, client.predict("example-desks", headlines), strict=True):
    print(f"{prediction.label}: {headline}")
