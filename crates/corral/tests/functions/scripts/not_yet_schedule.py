"""A schedule, which this server does not have yet."""

import modal

app = modal.App("not-yet-schedule")


@app.function(schedule=modal.Period(days=1))
def daily():
    return None


@app.local_entrypoint()
def main():
    daily.remote()
