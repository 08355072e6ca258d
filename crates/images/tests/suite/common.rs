//! What the tests of builds share: images in a directory that stays, so that bases and packages
//! are fetched once, and a plain runner of steps.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use corral_containers::{Base, BuildStep, ImageRecipe};
use corral_images::{
    Access, BaseChoice, BuildLine, BuildLog, ClientVersion, Files, Images, ImagesOptions,
    LineSource, StepEnd, StepProcess, StepRunner,
};
use corral_types::BlobHash;

/// Runs steps with the tools of util-linux: no limits, no network of its own.
#[derive(Default)]
pub struct ChrootRunner {
    pub runs: AtomicUsize,
}

const SCRIPT: &str = r#"
set -e
root=$1 lowers=$2 writable=$3 directory=$4 binds=$5
shift 5
mount -t overlay overlay -o "userxattr,lowerdir=$lowers,upperdir=$writable/upper,workdir=$writable/work" "$root"
mount --rbind /etc/resolv.conf "$root/etc/resolv.conf"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/dev/shm"
mount -t tmpfs tmpfs "$root/tmp"
while read -r access source target; do
    [ -n "$source" ] || continue
    mount --bind "$source" "$root$target"
    [ "$access" = rw ] || mount -o remount,bind,ro "$root$target"
done < "$binds"
exec /usr/sbin/chroot "$root" /usr/bin/env -C "$directory" "$@"
"#;

impl StepRunner for ChrootRunner {
    fn run(&self, process: &StepProcess, log: &dyn BuildLog) -> io::Result<StepEnd> {
        self.runs.fetch_add(1, Ordering::SeqCst);
        let scratch = tempfile::tempdir_in(&process.writable)?;
        let (root, binds) = (scratch.path().join("root"), scratch.path().join("binds"));
        std::fs::create_dir(&root)?;
        std::fs::create_dir_all(process.writable.join("work"))?;
        let mut lines = String::new();
        for bind in &process.binds {
            let access = if bind.access == Access::Write { "rw" } else { "ro" };
            lines += &format!("{access} {} {}\n", bind.source.display(), bind.target.display());
        }
        std::fs::write(&binds, lines)?;
        let lowers: Vec<String> =
            process.lowers.iter().map(|lower| lower.display().to_string()).collect();
        let mut command = Command::new("unshare");
        if !rustix::process::geteuid().is_root() {
            command.args(["--user", "--map-root-user"]);
        }
        command.args(["--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child"]);
        command.args(["sh", "-c", SCRIPT, "sh"]).arg(&root).arg(lowers.join(":"));
        command.arg(&process.writable).arg(&process.working_directory).arg(&binds);
        command.args(&process.arguments).env_clear().envs(&process.environment);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        std::thread::scope(|scope| {
            scope.spawn(|| hand_on(err, LineSource::Error, log));
            hand_on(out, LineSource::Output, log);
        });
        let status = child.wait()?;
        match status.code() {
            Some(code) => Ok(StepEnd::Exited { code }),
            None => Ok(StepEnd::Signalled { signal: 9 }),
        }
    }
}

fn hand_on(pipe: impl Read, source: LineSource, log: &dyn BuildLog) {
    for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
        log.line(BuildLine { source, text: &String::from_utf8_lossy(&line) });
    }
}

/// Keeps every line.
#[derive(Default)]
pub struct Heard(pub Mutex<Vec<String>>);

impl BuildLog for Heard {
    fn line(&self, line: BuildLine<'_>) {
        self.0.lock().unwrap().push(line.text.to_owned());
    }
}

impl Heard {
    pub fn text(&self) -> String {
        self.0.lock().unwrap().join("\n")
    }
}

/// Files by content, in memory.
#[derive(Default)]
pub struct Contents(pub Mutex<Vec<(BlobHash, Vec<u8>)>>);

impl Contents {
    pub fn add(&self, bytes: &[u8]) -> BlobHash {
        let hash = BlobHash::of(bytes);
        self.0.lock().unwrap().push((hash, bytes.to_vec()));
        hash
    }
}

impl Files for Contents {
    fn open(&self, hash: &BlobHash) -> io::Result<File> {
        let contents = self.0.lock().unwrap();
        let (_, bytes) =
            contents.iter().find(|(of, _)| of == hash).ok_or(io::ErrorKind::NotFound)?;
        let mut file = tempfile::tempfile()?;
        io::Write::write_all(&mut file, bytes)?;
        io::Seek::rewind(&mut file)?;
        Ok(file)
    }
}

/// The images of the tests, for one test at a time.
pub struct Workshop {
    pub images: Images,
    pub runner: Arc<ChrootRunner>,
    pub contents: Arc<Contents>,
    pub turn: File,
}

/// Whether real builds can be tried here; says so where not.
pub fn can_build() -> bool {
    if rustix::process::geteuid().is_root() {
        return true;
    }
    let namespaces = Command::new("unshare").args(["--user", "--map-root-user", "true"]).status();
    let works = namespaces.is_ok_and(|status| status.success());
    if !works {
        println!("skipped: real builds need root or user namespaces for mounts");
    }
    works
}

pub fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("images")
}

/// Options with a runner and contents of the test's own.
pub fn options(base: BaseChoice) -> (ImagesOptions, Arc<ChrootRunner>, Arc<Contents>) {
    let (runner, contents) = (Arc::<ChrootRunner>::default(), Arc::<Contents>::default());
    let mut options = ImagesOptions::new(contents.clone(), runner.clone());
    options.base = base;
    (options, runner, contents)
}

/// Waits until no other test uses the shared directory.
pub fn turn() -> File {
    std::fs::create_dir_all(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("images.turn");
    let turn = File::create(path).unwrap();
    turn.lock().unwrap();
    turn
}

pub fn workshop(base: BaseChoice) -> Workshop {
    let turn = turn();
    let (options, runner, contents) = options(base);
    let images = Images::open(folder(), options).unwrap();
    Workshop { images, runner, contents, turn }
}

pub fn client() -> ClientVersion {
    ClientVersion { client_version: "1.6.4".into(), builder_version: "2026.10".into() }
}

/// A recipe over a reference. Every test's own variable keeps images of earlier runs apart.
pub fn from(reference: &str, commands: &[&str]) -> ImageRecipe {
    ImageRecipe {
        base: Base::Reference { reference: reference.into() },
        step: step(commands),
        force_build: None,
    }
}

pub fn over(below: &ImageRecipe, commands: &[&str]) -> ImageRecipe {
    ImageRecipe {
        base: Base::Image { image: Box::new(below.clone()) },
        step: step(commands),
        force_build: None,
    }
}

fn step(commands: &[&str]) -> BuildStep {
    let commands = commands.iter().map(|command| (*command).to_owned()).collect();
    BuildStep { commands, ..BuildStep::default() }
}

/// What the client sends for `debian_slim()`.
pub fn debian_slim(series: &str) -> ImageRecipe {
    from(
        &format!("python:{series}-slim-trixie"),
        &[
            "RUN apt-get update",
            "RUN apt-get install -y gcc gfortran build-essential",
            "RUN pip install --upgrade pip wheel uv",
            "RUN echo 'debconf debconf/frontend select Noninteractive' | debconf-set-selections",
            "CMD [\"sleep\", \"172800\"]",
        ],
    )
}
