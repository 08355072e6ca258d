//! Images built for real: over the host's files and Debian's packages, with packages from the
//! index. They share one directory, so that bases are made once.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::common::*;
use corral_containers::{ContextFile, FileTree, ImageRecipe, SecretValue, TreeFile};
use corral_images::{BaseChoice, BuildError, Images, ReadyImage, StepEnd, StepProcess, StepRunner};

/// Something that differs from run to run, so that a recipe is really built.
fn fresh() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    format!("ARG RUN_OF_TESTS={}", now.as_nanos())
}

fn build(shop: &Workshop, recipe: &ImageRecipe) -> (ReadyImage, String) {
    let log = Heard::default();
    let image = shop.images.ensure(recipe, &client(), &log);
    (image.unwrap_or_else(|error| panic!("{error}\n{}", log.text())), log.text())
}

/// What a program in a container of the image writes.
fn output(
    shop: &Workshop,
    image: &ReadyImage,
    above: &[std::path::PathBuf],
    script: &str,
) -> String {
    let writable = tempfile::tempdir_in(folder()).unwrap();
    std::fs::create_dir(writable.path().join("upper")).unwrap();
    let process = StepProcess {
        lowers: above.iter().chain(&image.lowers).cloned().collect(),
        writable: writable.path().to_owned(),
        binds: vec![],
        environment: image.environment.clone(),
        working_directory: image.working_directory.clone().unwrap_or_else(|| "/".into()),
        arguments: ["/bin/sh", "-c", script].map(str::to_owned).into(),
        network: corral_containers::Network::None,
    };
    let log = Heard::default();
    let end = shop.runner.run(&process, &log).unwrap();
    assert_eq!(end, StepEnd::SUCCESS, "{script}\n{}", log.text());
    log.text()
}

#[test]
fn a_chain_of_steps_over_the_hosts_files() {
    if !can_build() {
        return;
    }
    let shop = workshop(BaseChoice::Host);
    let slim = debian_slim("3.11");
    if shop.images.survey().pythons.iter().all(|python| python.series != "3.11") {
        println!("skipped: the host has no Python 3.11 of its distribution");
        return;
    }
    let mut recipe = over(
        &slim,
        &[
            &fresh(),
            "ENV GREETING='hello there' TARGET=world",
            "ENV BOTH=\"$GREETING, ${TARGET:-nobody}\"",
            "WORKDIR /srv/app",
            "COPY . data",
            "COPY --chmod=755 run.sh /usr/local/bin/run",
            "RUN run > output && echo $RUN_OF_TESTS | wc -c >> output",
            "RUN --mount=type=secret,id=KEY test \"$(cat /run/secrets/KEY)\" = \"$KEY\"",
            "SHELL [\"/bin/bash\", \"-c\"]",
            "RUN [[ ${#KEY} == 4 ]] && echo from bash >> output",
            "ENTRYPOINT [\"/usr/local/bin/run\"]",
            "CMD [\"now\"]",
            "EXPOSE 80",
        ],
    );
    let blob = shop.contents.add(b"tree");
    let files = vec![TreeFile { path: "inner/file".into(), blob, mode: 0o640 }];
    recipe.step.context = Some(FileTree { files });
    let script = b"#!/bin/sh\necho $BOTH from $PWD\n".to_vec();
    recipe.step.context_files = vec![ContextFile { name: "/run.sh".into(), bytes: script }];
    recipe.step.secrets.insert("KEY".into(), SecretValue::new("hush".into()));
    let (image, log) = build(&shop, &recipe);
    assert!(!log.contains("hush"), "{log}");
    assert_eq!(image.entrypoint, ["/usr/local/bin/run"]);
    assert_eq!(image.command, ["now"]);
    assert_eq!(image.shell, ["/bin/bash", "-c"]);
    assert_eq!(image.working_directory.as_deref(), Some("/srv/app"));
    assert_eq!(image.environment["BOTH"], "hello there, world");
    assert_eq!(image.metadata.python_version.as_deref().unwrap()[..4], *"3.11");
    assert!(!image.environment.contains_key("KEY"));

    let seen = output(&shop, &image, &[], "cat output; stat -c '%a %u' data/inner/file");
    assert_eq!(seen, "hello there, world from /srv/app\n20\nfrom bash\n640 0");
    // Nothing of the machine, and no secret, is in what was written.
    let left = output(
        &shop,
        &image,
        &[],
        "ls -A /__corral/build /run/secrets; cat /etc/resolv.conf | head -c 0",
    );
    assert_eq!(left, "/__corral/build:\n\n/run/secrets:");
    let layer = image.lowers[0].join("etc/resolv.conf");
    assert!(!layer.exists());

    // Of the host there are programs, and neither its homes nor its configuration.
    let script = "ls -A /root; ls -A /home; ls -A /opt; ls -A /mnt; \
                  ls /etc/shadow /etc/ssh /etc/machine-id /etc/fstab 2>/dev/null; \
                  python -c 'import sys, ssl; print(sys.prefix)'; gcc --version | head -1 | cut -c1-3";
    assert_eq!(output(&shop, &image, &[], script), "/usr/local\ngcc");
}

#[test]
fn a_step_that_fails_says_what_how_and_its_last_words() {
    if !can_build() {
        return;
    }
    let shop = workshop(BaseChoice::Auto);
    let recipe = over(&debian_slim("3.11"), &[&fresh(), "RUN echo before; seq 1 90 >&2; exit 7"]);
    let error = shop.images.ensure(&recipe, &client(), &Heard::default()).unwrap_err();
    let BuildError::Step { command, end, output } = &error else { panic!("{error}") };
    assert_eq!(command, "RUN echo before; seq 1 90 >&2; exit 7");
    assert_eq!(*end, StepEnd::Exited { code: 7 });
    assert!(output.ends_with("89\n90") && !output.contains("\n10\n"), "{output}");
    assert!(error.to_string().contains("ended with exit code 7; it wrote last:\n"), "{error}");
    let left = std::fs::read_dir(folder().join("scratch")).unwrap().count();
    assert_eq!(left, 0, "what a failed build wrote is gone");
}

#[test]
fn the_same_recipe_is_built_once_until_it_is_forced() {
    if !can_build() {
        return;
    }
    let shop = workshop(BaseChoice::Auto);
    build(&shop, &debian_slim("3.11"));
    let mut recipe = over(&debian_slim("3.11"), &[&fresh(), "RUN sleep 0.3; date > /made"]);
    shop.runner.runs.store(0, Ordering::SeqCst);
    let images: Vec<ReadyImage> = std::thread::scope(|scope| {
        let builds: Vec<_> = (0..4).map(|_| scope.spawn(|| build(&shop, &recipe).0)).collect();
        builds.into_iter().map(|build| build.join().unwrap()).collect()
    });
    assert_eq!(shop.runner.runs.load(Ordering::SeqCst), 1);
    assert!(images.iter().all(|image| image.lowers == images[0].lowers));

    for (force, runs) in [(Some(1), 2), (Some(1), 2), (Some(2), 3), (None, 3)] {
        recipe.force_build = force;
        build(&shop, &recipe);
        assert_eq!(shop.runner.runs.load(Ordering::SeqCst), runs, "{force:?}");
    }

    // Opened again, they are there.
    let Workshop { images, runner, turn, .. } = shop;
    drop(images);
    let images = Images::open(folder(), options(BaseChoice::Auto).0).unwrap();
    images.ensure(&recipe, &client(), &Heard::default()).unwrap();
    assert_eq!(runner.runs.load(Ordering::SeqCst), 3);
    drop((images, turn));
}

#[test]
fn packages_come_from_the_store_or_from_a_container() {
    if !can_build() {
        return;
    }
    let shop = workshop(BaseChoice::Auto);
    let slim = debian_slim("3.11");
    let forced = |mut recipe: ImageRecipe| {
        recipe.force_build = Some(std::process::id().into());
        recipe
    };
    build(&shop, &slim);
    let pip = forced(over(&slim, &["RUN python -m pip install 'six==1.16.0' humanize"]));
    let (image, log) = build(&shop, &pip);
    assert!(log.contains("Successfully installed") && log.contains("six-1.16.0"), "{log}");
    let version = "python -c 'import six, humanize; print(six.__version__, six.__file__)'";
    let seen = output(&shop, &image, &[], version);
    assert!(seen.starts_with("1.16.0 /usr/local/lib/python3.11/site-packages/six.py"), "{seen}");
    let compiled = "ls /usr/local/lib/python3.11/site-packages/__pycache__/six.cpython-311.pyc";
    output(&shop, &image, &[], compiled);

    // Whatever a container does to a package's files, the store's stay as they were.
    let stored = image.lowers[0].join("usr/local/lib/python3.11/site-packages/six.py");
    let before = (std::fs::read(&stored).unwrap(), std::fs::metadata(&stored).unwrap().modified());
    let harm = "cd /usr/local/lib/python3.11/site-packages; echo broken > six.py; chmod 777 six.py; \
                touch -d 1999-01-01 six.py; chown 7 six.py; ln six.py seven.py; cat seven.py; \
                rm -r humanize*";
    assert_eq!(output(&shop, &image, &[], harm), "broken");
    let metadata = std::fs::metadata(&stored).unwrap();
    assert!(std::fs::read(&stored).unwrap() == before.0);
    assert_eq!(metadata.modified().unwrap(), before.1.unwrap());
    assert_eq!(std::os::unix::fs::MetadataExt::mode(&metadata) & 0o777, 0o644);

    // As the client's uv_pip_install writes it, with a program and a file of requirements.
    let mut uv = forced(over(
        &pip,
        &[
            "COPY --from=ghcr.io/astral-sh/uv:latest /uv /.uv/uv",
            "COPY /.0_requirements.txt /.uv/0/requirements.txt",
            "RUN /.uv/uv pip install --python $(command -v python) --compile-bytecode \
             --requirements /.uv/0/requirements.txt six",
        ],
    ));
    let bytes = b"markdown-it-py==3.0.0\n".to_vec();
    uv.step.context_files = vec![ContextFile { name: "/.0_requirements.txt".into(), bytes }];
    let (image, log) = build(&shop, &uv);
    assert!(!log.contains("six-"), "what is there stays: {log}");
    let seen = output(
        &shop,
        &image,
        &[],
        "markdown-it --version; head -1 /usr/local/bin/markdown-it; /.uv/uv --version",
    );
    assert!(seen.contains("markdown-it-py") && seen.contains("3.0.0"), "{seen}");
    assert!(seen.contains("#!/usr/local/bin/python3.11"), "{seen}");

    // Another version than the one that is there is pip's to bring in.
    let (image, log) = build(&shop, &forced(over(&pip, &["RUN pip install six==1.17.0"])));
    assert!(log.contains("has to be replaced"), "{log}");
    assert!(output(&shop, &image, &[], version).starts_with("1.17.0 "));

    // No such version anywhere: pip says so.
    let error = shop
        .images
        .ensure(&over(&slim, &["RUN pip install six==99"]), &client(), &Heard::default())
        .unwrap_err();
    assert!(error.to_string().contains("No matching distribution"), "{error}");
}

/// What this process has used; on a busy machine the time that passes says little.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap())
}

#[test]
fn unchanged_images_and_known_packages_take_no_time() {
    if !can_build() {
        return;
    }
    // Layers with packages go, the unpacked packages stay.
    let turn = turn();
    for entry in std::fs::read_dir(folder().join("layers")).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with("packages-") {
            std::fs::remove_dir_all(entry.path()).unwrap();
        }
    }
    drop(turn);
    let shop = workshop(BaseChoice::Auto);
    let install = |packages: &str| {
        let line = format!("RUN python -m pip install {packages}");
        over(&debian_slim("3.11"), &[&fresh(), &line])
    };
    build(&shop, &install("pandas scikit-learn six"));
    let recipe = install("pandas scikit-learn");
    let (started, processor) = (Instant::now(), processor_time());
    let (_, log) = build(&shop, &recipe);
    let (took, processor) = (started.elapsed(), processor_time() - processor);
    println!("pandas and scikit-learn from the store: {took:?}, of the processor {processor:?}");
    assert!(!log.contains("fetches"), "{log}");

    let mut recipe = recipe;
    for number in 0..3 {
        recipe = over(&recipe, &[&format!("ENV A{number}=1"), "RUN true"]);
    }
    build(&shop, &recipe);
    let started = Instant::now();
    for _ in 0..100 {
        build(&shop, &recipe);
    }
    let unchanged = started.elapsed() / 100;
    println!("an unchanged image of five steps: {unchanged:?}");
    assert!(unchanged < Duration::from_millis(20), "{unchanged:?}");
}

#[test]
fn packages_of_the_system_come_over_debians_base() {
    if !can_build() {
        return;
    }
    let shop = workshop(BaseChoice::Auto);
    if !shop.images.survey().pythons.iter().any(|python| python.base == "Debian bookworm") {
        println!("skipped: {}", shop.images.survey().missing.join("; "));
        return;
    }
    let recipe = over(
        &debian_slim("3.11"),
        &[&fresh(), "RUN apt-get update", "RUN apt-get install -y tree"],
    );
    let (image, log) = build(&shop, &recipe);
    assert_eq!(image.metadata.base, "Debian bookworm");
    assert!(
        log.contains("waits until a line needs it") && log.contains("Setting up tree"),
        "{log}"
    );
    let seen = output(&shop, &image, &[], "tree --version; python --version; pip --version");
    assert!(seen.starts_with("tree v") && seen.contains("\nPython 3.11"), "{seen}");

    let error = shop.images.ensure(&debian_slim("3.12"), &client(), &Heard::default()).unwrap_err();
    assert!(
        error.to_string().contains("no base with Python 3.12; it can offer 3.9, 3.11"),
        "{error}"
    );
}
