"""A function whose container becomes a given program at its first call.

    python minimal.py PROGRAM

Prints what it made, and ends the app when its input ends.
"""

import json
import os
import sys

import modal

POLLERS = 64
INSIDE = "/root/minimal"

app = modal.App("bench-minimal")
image = modal.Image.debian_slim()
if modal.is_local():
    image = image.add_local_file(sys.argv[1], INSIDE)


def become(function_id, programs, pollers):
    # Beside the floor, containers are processes of this machine.
    program = next(program for program in programs if os.path.exists(program))
    arguments = [os.environ["MODAL_SERVER_URL"], function_id, modal.current_input_id()]
    arguments += [modal.current_function_call_id(), str(pollers)]
    os.execv(program, [program, "minimal-container", *arguments])


@app.function(image=image, min_containers=1, max_containers=1, timeout=3600)
def one(function_id, programs):
    become(function_id, programs, 1)


@app.function(image=image, min_containers=1, max_containers=1, timeout=3600)
@modal.concurrent(max_inputs=POLLERS)
def many(function_id, programs):
    become(function_id, programs, POLLERS)


if __name__ == "__main__":
    with app.run():
        for function in (one, many):
            function.remote(function.object_id, [INSIDE, sys.argv[1]])
        print(json.dumps({"one": one.object_id, "many": many.object_id}), flush=True)
        sys.stdin.read()
