"""A module that cannot be imported where its function runs."""

import modal

app = modal.App("broken-import")

if not modal.is_local():
    import a_module_that_nobody_has


@app.function()
def never():
    return None


@app.local_entrypoint()
def main():
    from proof import part, raises

    with part("module that cannot be imported"):
        with raises(Exception, containing="a_module_that_nobody_has"):
            never.remote()
