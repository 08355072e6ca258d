"""A step that is run again only when that is asked for."""

import modal

app = modal.App("image-forced")


def stamped(**options):
    base = modal.Image.debian_slim()
    return base.run_commands("cat /proc/sys/kernel/random/uuid > /stamp", **options)


@app.function(image=stamped())
def kept():
    return open("/stamp").read().strip()


@app.function(image=stamped(force_build=True))
def forced():
    return open("/stamp").read().strip()


@app.local_entrypoint()
def main():
    print(f"kept {kept.remote()}")
    print(f"forced {forced.remote()}")
