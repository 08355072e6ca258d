//! What stays on disk: after kills, with little room, from finished containers.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::common::*;
use corral_containers::{FileTree, ImageKey, TreeFile};
use corral_images::{BaseChoice, BuildError, Images};
use corral_types::BlobHash;

fn tree(blob: BlobHash, path: &str) -> FileTree {
    FileTree { files: vec![TreeFile { path: path.into(), blob, mode: 0o755 }] }
}

#[test]
fn trees_are_laid_out_once_and_the_longest_unused_make_room() {
    let dir = tempfile::tempdir().unwrap();
    let (mut options, _, contents) = options(BaseChoice::Auto);
    options.quota_bytes = 1 << 20;
    let images = Images::open(dir.path(), options).unwrap();
    let mode = fs::metadata(dir.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700, "others of the machine are kept out");
    let trees: Vec<FileTree> = (0..4_u8)
        .map(|number| tree(contents.add(&vec![number; 300 << 10]), "/root/module.py"))
        .collect();
    let first = images.lay_out(&trees[0]).unwrap();
    let file = first.path.join("root/module.py");
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o755);
    let again = images.lay_out(&trees[0]).unwrap();
    assert_eq!(first.path, again.path);
    let second = images.lay_out(&trees[1]).unwrap().path;
    let third = images.lay_out(&trees[2]).unwrap().path;
    assert!(images.used_bytes() > 900 << 10);
    let fourth = images.lay_out(&trees[3]).unwrap();
    assert!(file.exists(), "what is in use stays");
    assert!(!second.exists(), "the longest unused went");
    assert!(images.used_bytes() <= 1 << 20);
    drop(third);

    let (big, bytes) = (contents.add(&vec![9; 900 << 10]), images.used_bytes());
    let error = images.lay_out(&tree(big, "/x")).err().unwrap();
    assert!(matches!(error, BuildError::Quota { .. }), "{error}");
    assert!(images.used_bytes() <= bytes);
    assert!(file.exists() && fourth.path.exists());

    let missing = images.lay_out(&tree(BlobHash::of(b"never added"), "/x"));
    assert!(missing.err().unwrap().to_string().starts_with("lay out /x"));
    assert!(images.lay_out(&tree(big, "/a/../../x")).is_err());
    drop((first, again, fourth));
    images.lay_out(&tree(big, "/x")).unwrap();
}

#[test]
fn a_directory_of_images_has_one_owner() {
    let dir = tempfile::tempdir().unwrap();
    let images = Images::open(dir.path(), options(BaseChoice::Auto).0).unwrap();
    let error = Images::open(dir.path(), options(BaseChoice::Auto).0).err().unwrap();
    assert!(error.to_string().starts_with("lock for this process alone"), "{error}");
    drop(images);
    Images::open(dir.path(), options(BaseChoice::Auto).0).unwrap();
}

/// A program that makes a base mounts into it, and may be killed then.
#[test]
fn nothing_is_removed_through_a_mount_that_was_left() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can mount");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (own, left) = (dir.path().join("own"), dir.path().join("images/scratch/0/tree/dev"));
    fs::create_dir_all(&own).unwrap();
    fs::create_dir_all(&left).unwrap();
    fs::write(own.join("precious"), "1").unwrap();
    let bound = Command::new("mount").arg("--bind").args([&own, &left]).status().unwrap();
    assert!(bound.success());
    let opened = Images::open(dir.path().join("images"), options(BaseChoice::Auto).0);
    let quiet = std::process::Stdio::null;
    let umount = Command::new("umount").arg(&left).stderr(quiet()).status();
    let still_mounted = umount.unwrap().success();
    opened.unwrap_or_else(|error| panic!("{error}"));
    assert!(!still_mounted);
    assert!(!left.exists());
    assert_eq!(fs::read_to_string(own.join("precious")).unwrap(), "1");
}

#[test]
fn what_a_container_wrote_can_become_an_image() {
    if !can_build() {
        return;
    }
    let shop = workshop(BaseChoice::Auto);
    let below = shop.images.ensure(&debian_slim("3.11"), &client(), &Heard::default()).unwrap();
    let upper = folder().join("scratch/upper-of-a-test");
    fs::create_dir(&upper).unwrap();
    fs::write(upper.join("weights"), "0.5").unwrap();
    let key = ImageKey(BlobHash::of(format!("{:?}", Instant::now()).as_bytes()));
    assert!(shop.images.find(key).is_none());
    let image = shop.images.commit(&upper, &below, key).unwrap();
    assert!(!upper.exists());
    assert_eq!(fs::read_to_string(image.lowers[0].join("weights")).unwrap(), "0.5");
    assert_eq!(image.lowers[1..], below.lowers);
    assert_eq!(shop.images.find(key).unwrap().lowers, image.lowers);
}

/// The process that is killed: a build that says when it is in the middle of its second step.
#[test]
fn builds_until_it_is_killed() {
    let Some(dir) = std::env::var_os("CORRAL_TEST_KILLED_BUILD") else { return };
    let images = Images::open(Path::new(&dir), options(BaseChoice::Host).0).unwrap();
    let log = Heard::default();
    drop(images.ensure(&killed_recipe("sleep 60"), &client(), &log));
}

fn killed_recipe(last: &str) -> corral_containers::ImageRecipe {
    let below = over(&debian_slim("3.11"), &["RUN echo first > /first"]);
    over(&below, &["RUN echo second > /second", &format!("RUN touch /middle && {last}")])
}

#[test]
fn a_kill_in_the_middle_leaves_whole_layers_only() {
    if !can_build() {
        return;
    }
    // A directory of its own below the shared one: the base is linked, the installers are fetched.
    let turn = turn();
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let program = std::env::current_exe().unwrap();
    let mut child = Command::new(program);
    child.args(["--exact", "keeping::builds_until_it_is_killed", "--nocapture"]);
    child.env("CORRAL_TEST_KILLED_BUILD", dir.path()).process_group(0);
    let mut child = child.spawn().unwrap();
    let started = Instant::now();
    let in_the_middle = || {
        let scratch = fs::read_dir(dir.path().join("scratch")).into_iter().flatten().flatten();
        scratch.into_iter().any(|entry| entry.path().join("upper/middle").exists())
    };
    while !in_the_middle() {
        assert!(started.elapsed() < Duration::from_secs(120), "the build did not get so far");
        assert!(child.try_wait().unwrap().is_none(), "the build ended");
        std::thread::sleep(Duration::from_millis(20));
    }
    let group = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process_group(group, rustix::process::Signal::KILL).unwrap();
    child.wait().unwrap();
    drop(turn);

    let (options, runner, _) = options(BaseChoice::Host);
    let images = Images::open(dir.path(), options).unwrap();
    assert_eq!(fs::read_dir(dir.path().join("scratch")).unwrap().count(), 0);
    let log = Heard::default();
    let image = images.ensure(&killed_recipe("true"), &client(), &log).unwrap();
    assert_eq!(fs::read_to_string(image.lowers[1].join("first")).unwrap(), "first\n");
    assert_eq!(fs::read_to_string(image.lowers[0].join("second")).unwrap(), "second\n");
    assert!(!log.text().contains("> /first"), "the finished image below stayed: {}", log.text());
    assert_eq!(runner.runs.load(std::sync::atomic::Ordering::SeqCst), 2);
}
