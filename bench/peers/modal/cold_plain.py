"""A no-op in containers of one input each that no template can be made for: its module has a
thread, and a process with threads cannot be forked."""

import threading

import modal

app = modal.App("bench-cold-plain")
threading.Thread(target=threading.Event().wait, daemon=True).start()


@app.function(single_use_containers=True, max_containers=1)
def nothing():
    pass


if __name__ == "__main__":
    app.deploy()
    print("{}")
