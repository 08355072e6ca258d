//! The table of what is tried: each part of the surface, the program that tries it, and the
//! clients it is tried with.

use crate::clients::{BEFORE_1, Client, JAVASCRIPT, NEWEST, OF_2024, OF_2025};
use crate::stage::{Stage, Tried};
use crate::steps;

/// How a program is run.
#[derive(Clone, Copy)]
pub enum Run {
    /// `modal run` of what follows.
    Modal(&'static [&'static str]),
    /// A program that uses the client.
    Program(&'static str),
    /// Several commands, one after another.
    Steps(fn(&Stage<'_>, &mut Tried)),
}

/// A program, or a few commands, that try parts of the surface.
pub struct Program {
    /// The heading below which its parts stand.
    pub area: &'static str,
    pub run: Run,
    pub needs: Needs,
    pub clients: &'static [Client],
    pub parts: &'static [Part],
}

/// What must be there before a program is run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    Nothing,
    /// The app `library` in the client's environment.
    Library,
}

/// A part of the surface.
pub struct Part {
    /// What the program calls it.
    pub name: &'static str,
    /// In the words of the client's documentation.
    pub words: &'static str,
    /// What happens instead of it, where it does not work.
    pub instead: &'static [Instead],
}

/// What happens instead of a part.
pub struct Instead {
    pub clients: &'static [Client],
    /// What the client says then.
    pub says: &'static str,
    /// In a sentence.
    pub sentence: &'static str,
}

const PYTHON: &[Client] = &[NEWEST, OF_2025, BEFORE_1];
const ALL_PYTHON: &[Client] = &[NEWEST, OF_2025, BEFORE_1, OF_2024];
const ONLY_NEWEST: &[Client] = &[NEWEST];

const fn part(name: &'static str, words: &'static str) -> Part {
    Part { name, words, instead: &[] }
}

/// A part that is not there yet, for all clients.
const fn not_yet(name: &'static str, words: &'static str, instead: &'static [Instead]) -> Part {
    Part { name, words, instead }
}

pub const SURFACE: &[Program] = &[
    Program {
        area: APPS,
        run: Run::Steps(steps::deploy::deploy),
        needs: Needs::Nothing,
        clients: ALL_PYTHON,
        parts: &[part("deploy", "`modal deploy`")],
    },
    // Takes long without doing much, so it begins early.
    Program {
        area: APPS,
        run: Run::Steps(steps::runs::killed_client),
        needs: Needs::Nothing,
        clients: ONLY_NEWEST,
        parts: &[part("killed client", "an app whose client was killed ends")],
    },
    Program {
        area: APPS,
        run: Run::Modal(&["hello.py::main", "--name", "Ada", "--times", "2", "--excited"]),
        needs: Needs::Nothing,
        clients: ALL_PYTHON,
        parts: &[
            part("arguments", "`modal run` of a local entrypoint, with arguments"),
            part("local", "`.local()`"),
        ],
    },
    Program {
        area: APPS,
        run: Run::Steps(steps::runs::runs),
        needs: Needs::Nothing,
        clients: ALL_PYTHON,
        parts: &[
            part("function", "`modal run` of a function, with arguments"),
            part("live logs", "logs while a function runs"),
            part("end", "an ephemeral app ends with its client"),
        ],
    },
    Program {
        area: APPS,
        run: Run::Steps(steps::runs::interrupted),
        needs: Needs::Nothing,
        clients: PYTHON,
        parts: &[
            part("Ctrl-C", "Ctrl-C ends the run and its containers"),
            part("detach", "`modal run --detach` goes on without its client"),
        ],
    },
    Program {
        area: APPS,
        run: Run::Program("programs.py"),
        needs: Needs::Nothing,
        clients: PYTHON,
        parts: &[
            part("app.run in a program", "`app.run()` in a program"),
            part("app.run async", "`async with app.run()`"),
        ],
    },
    Program {
        area: APPS,
        run: Run::Steps(steps::serve::serve),
        needs: Needs::Nothing,
        clients: ONLY_NEWEST,
        parts: &[part("serve", "`modal serve`, with reloading")],
    },
    Program {
        area: APPS,
        run: Run::Steps(steps::deploy::versions),
        needs: Needs::Nothing,
        clients: ONLY_NEWEST,
        parts: &[
            part("redeploy", "`modal deploy` again: new calls reach the new version"),
            part("history", "`modal app history`"),
            part("rollback", "`modal app rollback`"),
            part("list", "`modal app list`"),
            part("logs", "`modal app logs`"),
            part("container list", "`modal container list`"),
            part("container logs", "`modal container logs`"),
            part("container stop", "`modal container stop`"),
            part("stop", "`modal app stop`"),
        ],
    },
    Program {
        area: APPS,
        run: Run::Steps(steps::accounts::environments),
        needs: Needs::Nothing,
        clients: ONLY_NEWEST,
        parts: &[
            part("environments", "`modal environment create`, `list`, `delete`"),
            part("environment of a run", "`modal run --env`, apart from other environments"),
        ],
    },
    Program {
        area: APPS,
        run: Run::Steps(steps::accounts::tokens),
        needs: Needs::Nothing,
        clients: ONLY_NEWEST,
        parts: &[
            part("token set", "`modal token set`"),
            part("wrong token", "a wrong token is refused"),
        ],
    },
    Program {
        area: CALLS,
        run: Run::Modal(&["calls.py::main"]),
        needs: Needs::Nothing,
        clients: PYTHON,
        parts: &[
            part("remote", "`.remote()`"),
            part("map", "`.map()`, in order"),
            part("map unordered", "`.map(order_outputs=False)`"),
            part("starmap", "`.starmap()`"),
            part("for_each", "`.for_each()`"),
            part("return_exceptions", "`.map(return_exceptions=True)`"),
            part("map raises", "an exception in `.map()`"),
            part("spawn", "`.spawn()` and `.get()`"),
            part("get timeout", "`.get(timeout=…)`"),
            part("from_id", "`FunctionCall.from_id`"),
            part("gather", "`FunctionCall.gather`"),
            part("async", "`.remote.aio`, `.map.aio`, `.spawn.aio`"),
        ],
    },
    Program {
        area: CALLS,
        run: Run::Modal(&["calls.py::spawned"]),
        needs: Needs::Nothing,
        clients: ONLY_NEWEST,
        parts: &[
            part("spawn_map", "`.spawn_map()`"),
            part("results of spawned inputs", "`.experimental_spawn_map()` and `.iter()`"),
        ],
    },
    Program {
        area: CALLS,
        run: Run::Modal(&["generators.py"]),
        needs: Needs::Nothing,
        clients: PYTHON,
        parts: &[
            part("generator", "`.remote_gen()`"),
            part("generator raises", "an exception in the middle of a generator"),
            part("async generator", "asynchronous generators"),
        ],
    },
    Program {
        area: CALLS,
        run: Run::Modal(&["failures.py"]),
        needs: Needs::Nothing,
        clients: &[NEWEST, OF_2025],
        parts: &[
            part("exception", "remote exceptions, with their traceback"),
            part("exception that cannot travel", "an exception that cannot be pickled"),
            part("exit", "a container whose process ends fails its call; the next call works"),
            part("timeout", "`timeout=`"),
            part("retries", "`retries=modal.Retries(…)`, with back-off"),
            part("cancel", "`.cancel()`; the container goes on"),
            part("cancel and end", "`.cancel(terminate_containers=True)`"),
        ],
    },
    Program {
        area: CALLS,
        run: Run::Modal(&["broken_import.py"]),
        needs: Needs::Nothing,
        clients: &[NEWEST, BEFORE_1],
        parts: &[part(
            "module that cannot be imported",
            "a module that cannot be imported fails its calls and says so",
        )],
    },
    Program {
        area: CALLS,
        run: Run::Modal(&["payloads.py"]),
        needs: Needs::Nothing,
        clients: &[NEWEST, BEFORE_1],
        parts: &[
            part("argument of 3 MB", "an argument of 3 MB"),
            part("result of 3 MB", "a result of 3 MB"),
            part("argument of 40 MB", "an argument of 40 MB"),
            part("result of 40 MB", "a result of 40 MB"),
            part("spawned argument of 3 MB", "an argument of 3 MB to `.spawn()`"),
            part("large arguments of a map", "arguments of 1 MB in `.map()`"),
        ],
    },
    Program {
        area: CALLS,
        run: Run::Program("lookups.py"),
        needs: Needs::Library,
        clients: PYTHON,
        parts: &[
            part("Function.from_name", "`Function.from_name(…)` from another program"),
            part("Function.from_name async", "the same, asynchronously"),
            part("spawn from another program", "`.spawn()` from another program, `from_id`"),
            part("exception from another program", "exceptions of a deployed function"),
            part("Cls.from_name", "`Cls.from_name(…)` from another program"),
            part("nothing of that name", "a name that nothing has is not found"),
        ],
    },
    Program {
        area: CALLS,
        run: Run::Program("lookups_2024.py"),
        needs: Needs::Library,
        clients: &[BEFORE_1, OF_2024],
        parts: &[
            part("Function.lookup", "`Function.lookup(…)`"),
            part("spawn from another program", "`.spawn()` from another program, `from_id`"),
            part("exception from another program", "exceptions of a deployed function"),
            part("Cls.lookup", "`Cls.lookup(…)`"),
            part("nothing of that name", "a name that nothing has is not found"),
        ],
    },
    Program {
        area: CALLS,
        run: Run::Program("lookup.mjs"),
        needs: Needs::Library,
        clients: &[JAVASCRIPT],
        parts: &[
            part("Function.from_name", "`Function.from_name(…)` from another program"),
            part("spawn from another program", "`.spawn()` from another program, `from_id`"),
            part("exception from another program", "exceptions of a deployed function"),
            part("Cls.from_name", "`Cls.from_name(…)` from another program"),
            part("nothing of that name", "a name that nothing has is not found"),
        ],
    },
    Program {
        area: CALLS,
        run: Run::Modal(&["inside.py"]),
        needs: Needs::Library,
        clients: &[NEWEST, OF_2025],
        parts: &[
            part("calls from a function", "calls of functions from inside a function"),
            part("calls from an async function", "the same from an asynchronous function"),
            part("calls from a method", "the same from a method"),
            part("exception from a call inside", "an exception of a call from inside"),
            part("calls to another app", "calls of other apps' functions and classes from inside"),
            part("who am I", "`current_input_id`, `current_function_call_id`, `is_local`"),
        ],
    },
    Program {
        area: CLASSES,
        run: Run::Steps(steps::runs::classes),
        needs: Needs::Nothing,
        clients: PYTHON,
        parts: &[
            part("method", "`@app.cls`, `@modal.method`, `@modal.enter`"),
            part("parameters", "`modal.parameter`"),
            part("generator method", "generator methods"),
            part("method map", "`.map()` of a method"),
            part("exit", "`@modal.exit`"),
        ],
    },
    Program {
        area: CLASSES,
        run: Run::Modal(&["classes.py::options"]),
        needs: Needs::Nothing,
        clients: &[NEWEST, OF_2025],
        parts: &[part("with_options", "`Cls.with_options`")],
    },
    Program {
        area: CLASSES,
        run: Run::Modal(&["serialized.py"]),
        needs: Needs::Nothing,
        clients: PYTHON,
        parts: &[
            part("serialized function", "`@app.function(serialized=True)`"),
            part("serialized class", "`@app.cls(serialized=True)`"),
        ],
    },
    Program {
        area: CLASSES,
        run: Run::Modal(&["snapshots.py"]),
        needs: Needs::Nothing,
        clients: &[NEWEST, OF_2025],
        parts: &[
            part("snapshot class", "`enable_memory_snapshot`, `@modal.enter(snap=True)`"),
            part("snapshot is begun from", "a later container begins from the snapshot"),
        ],
    },
    Program {
        area: CLASSES,
        run: Run::Modal(&["scaling.py::main"]),
        needs: Needs::Nothing,
        clients: &[NEWEST, OF_2025],
        parts: &[
            part("concurrent", "`@modal.concurrent`"),
            part("batched", "`@modal.batched`"),
            part("max_containers", "`max_containers`"),
            part("min_containers", "`min_containers`"),
            part("scaledown_window", "`scaledown_window`"),
        ],
    },
    Program {
        area: CLASSES,
        run: Run::Modal(&["scaling.py::newest"]),
        needs: Needs::Nothing,
        clients: ONLY_NEWEST,
        parts: &[
            part("single_use_containers", "`single_use_containers`"),
            part("update_autoscaler", "`.update_autoscaler()`"),
            part("with_options of a function", "`Function.with_options`"),
        ],
    },
    Program {
        area: CLASSES,
        run: Run::Steps(steps::accounts::secrets),
        needs: Needs::Nothing,
        clients: &[NEWEST, BEFORE_1],
        parts: &[
            part("secret create", "`modal secret create`, `list`"),
            part("secret from a dict", "`Secret.from_dict`"),
            part("secret by name", "`Secret.from_name`"),
            part("missing secret", "a secret that is not there is refused by its name"),
        ],
    },
    Program {
        area: IMAGES,
        run: Run::Modal(&["images.py"]),
        needs: Needs::Nothing,
        clients: PYTHON,
        parts: &[
            part("pip_install", "`pip_install`, `pip_install_from_requirements`"),
            part("run_commands, env, workdir", "`run_commands`, `env`, `workdir`"),
            part("dockerfile_commands", "`dockerfile_commands`: `ARG`, `ENV`, `RUN`"),
            part("run_function", "`run_function`"),
            part(
                "add_local, copied",
                "`add_local_file`, `_dir`, `_python_source` with `copy=True`",
            ),
            part("add_local, mounted", "the same, added at the start of a container"),
        ],
    },
    Program {
        area: IMAGES,
        run: Run::Modal(&["image_uv.py"]),
        needs: Needs::Nothing,
        clients: ONLY_NEWEST,
        parts: &[part("uv_pip_install", "`uv_pip_install`")],
    },
    Program {
        area: IMAGES,
        run: Run::Modal(&["image_apt.py"]),
        needs: Needs::Nothing,
        clients: ONLY_NEWEST,
        parts: &[part("apt_install", "`apt_install`")],
    },
    Program {
        area: IMAGES,
        run: Run::Steps(steps::images::images),
        needs: Needs::Nothing,
        clients: ONLY_NEWEST,
        parts: &[
            part("kept", "an image that is there is not built again"),
            part("force_build", "`force_build=True`"),
            part("failing step", "a step that fails shows its command and what it wrote"),
            part(
                "unknown Python",
                "a Python that the machine has not is refused, with those it has",
            ),
        ],
    },
    Program {
        area: OLD,
        run: Run::Modal(&["snippets_2024.py", "--name", "Ada"]),
        needs: Needs::Nothing,
        clients: &[BEFORE_1, OF_2024],
        parts: &[
            part("arguments", "`modal run` with arguments"),
            part("remote", "`.remote()`, `.local()`"),
            part("map", "`.map()`, `.starmap()`"),
            part("spawn", "`.spawn()` and `.get()`"),
            part("generator", "`.remote_gen()`"),
            part("exception", "remote exceptions"),
            part("env of an image", "`Image.env`"),
            part("secret from a dict", "`Secret.from_dict`"),
            part("method", "`@app.cls`, `@modal.method`, `@modal.enter`"),
            part("keep_warm", "`keep_warm=1`"),
            part("keep_warm changed", "`Function.keep_warm(2)`"),
            part("allow_concurrent_inputs", "`allow_concurrent_inputs`"),
        ],
    },
    Program {
        area: NOT_YET,
        run: Run::Program("not_yet.py"),
        needs: Needs::Nothing,
        clients: ONLY_NEWEST,
        parts: &[
            not_yet("Volume", "`modal.Volume`", &[]),
            not_yet("Dict", "`modal.Dict`", &[]),
            not_yet("Queue", "`modal.Queue`", &[]),
            not_yet("Sandbox", "`modal.Sandbox`", &[]),
            not_yet("Image.from_registry", "`Image.from_registry`", &[]),
        ],
    },
    Program {
        area: NOT_YET,
        run: Run::Steps(steps::not_yet::not_yet),
        needs: Needs::Nothing,
        clients: ONLY_NEWEST,
        parts: &[
            not_yet("web endpoint", "`@modal.fastapi_endpoint`", &[]),
            not_yet("schedule", "`schedule=modal.Period(…)`", &[]),
        ],
    },
];

const APPS: &str = "Apps";
const CALLS: &str = "Calls";
const CLASSES: &str = "Functions and classes";
const IMAGES: &str = "Images";
const OLD: &str = "Programs of 2024";
const NOT_YET: &str = "Not yet";
