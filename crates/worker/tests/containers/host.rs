//! A machine with containers: a launcher, groups where there are any, and an image made of links
//! to this machine's own programs.

use std::fs;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;

use corral_containers::{Limits, Network};
use corral_isolation::{
    Access, Bind, ContainerPlan, ContainerProcessEvent, Exit, Isolation, IsolationChoice, Stdio,
    TemplatePlan, Writable,
};
use corral_worker::{
    CgroupMounts, ContainerHandle, Containers, Enforcer, LauncherEnd, LauncherProcess, Template,
};
use corral_worker_api::Enforcement;

pub const MIB: u64 = 1 << 20;

pub struct Host {
    pub runtime: tokio::runtime::Runtime,
    pub containers: Containers,
    pub enforcer: Enforcer,
    image: tempfile::TempDir,
    // Last: the launcher ends what is left.
    _end: LauncherEnd,
}

impl Host {
    /// None where this machine has no namespaces, which is said.
    pub fn new(name: &str) -> Option<Self> {
        let host = Self::open(name, IsolationChoice::Auto, None);
        if let Some(why) = host.containers.no_namespaces() {
            println!("skipped: no containers here: {why}");
            return None;
        }
        host.containers.refill().unwrap();
        Some(host)
    }

    /// One whose containers are processes.
    pub fn of_processes(name: &str, enforcement: Option<Enforcement>) -> Self {
        Self::open(name, IsolationChoice::Only(Isolation::Process), enforcement)
    }

    fn open(name: &str, choice: IsolationChoice, enforcement: Option<Enforcement>) -> Self {
        let launcher = LauncherProcess::start(&std::env::current_exe().unwrap()).unwrap();
        let (launcher, end) = launcher.attach().unwrap();
        let mounts = CgroupMounts::of_this_process();
        let enforcer = Enforcer::choose(&mounts, enforcement, name).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        // As a worker does, within its runtime.
        let opened = async { Containers::open_as(choice, launcher, &enforcer, name) };
        let containers = runtime.block_on(opened).unwrap();
        let image = tempfile::tempdir().unwrap();
        for name in ["bin", "sbin", "lib", "lib64"] {
            symlink(format!("usr/{name}"), image.path().join(name)).unwrap();
        }
        fs::create_dir(image.path().join("etc")).unwrap();
        fs::write(image.path().join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").unwrap();
        Self { runtime, containers, enforcer, image, _end: end }
    }

    pub fn plan(&self, arguments: &[&str]) -> ContainerPlan {
        ContainerPlan {
            name: "a test's container".into(),
            lowers: vec![self.image.path().to_owned()],
            writable: Writable::Memory { bytes: 64 * MIB },
            binds: vec![Bind {
                source: "/usr".into(),
                target: "/usr".into(),
                access: Access::Read,
            }],
            files: Vec::new(),
            environment: vec![("PATH".into(), "/usr/bin:/bin".into())],
            arguments: arguments.iter().map(|word| (*word).to_owned()).collect(),
            working_directory: "/root".into(),
            hostname: "inside".into(),
            limits: Limits {
                memory_request_bytes: 32 * MIB,
                memory_limit_bytes: 128 * MIB,
                milli_cpu: 1000,
                milli_cpu_limit: None,
                processes: 64,
                disk_bytes: 64 * MIB,
                gpus: 0,
            },
            network: Network::Outbound,
        }
    }

    pub fn python(&self, program: &str) -> ContainerPlan {
        self.plan(&["/usr/bin/python3.11", "-c", program])
    }

    /// A template that imports what is in the image.
    pub fn template(
        &self,
        container: ContainerPlan,
        imports: &[&str],
    ) -> (Template, io::PipeReader) {
        let (stdio, reader) = streams();
        let imports = imports.iter().map(|name| (*name).to_owned()).collect();
        let plan = TemplatePlan { container, imports };
        (self.runtime.block_on(self.containers.prepare(plan, stdio)).unwrap(), reader)
    }

    pub fn image(&self) -> &std::path::Path {
        self.image.path()
    }

    pub fn start_from(
        &self,
        template: &Template,
        plan: ContainerPlan,
    ) -> io::Result<(ContainerHandle, io::PipeReader)> {
        let (stdio, reader) = streams();
        Ok((self.runtime.block_on(template.start(plan, stdio))?, reader))
    }

    /// Starts a container whose streams end up in the pipe.
    pub fn start(&self, plan: ContainerPlan) -> (ContainerHandle, io::PipeReader) {
        self.try_start(plan).unwrap()
    }

    pub fn try_start(&self, plan: ContainerPlan) -> io::Result<(ContainerHandle, io::PipeReader)> {
        let (stdio, reader) = streams();
        Ok((self.runtime.block_on(self.containers.start(plan, stdio))?, reader))
    }

    pub fn next(&self, handle: &mut ContainerHandle) -> Option<ContainerProcessEvent> {
        let limit = std::time::Duration::from_secs(30);
        let next = async { tokio::time::timeout(limit, handle.next()).await };
        self.runtime.block_on(next).expect("an event in time")
    }

    /// What a container prints, and how it ends.
    pub fn run(&self, plan: ContainerPlan) -> (String, Exit) {
        let (handle, reader) = self.start(plan);
        self.finish(handle, reader)
    }

    pub fn finish(
        &self,
        mut handle: ContainerHandle,
        mut reader: io::PipeReader,
    ) -> (String, Exit) {
        match self.next(&mut handle) {
            Some(ContainerProcessEvent::Started { .. }) => {}
            other => panic!("did not start: {other:?}"),
        }
        let mut output = String::new();
        reader.read_to_string(&mut output).unwrap();
        match self.next(&mut handle) {
            Some(ContainerProcessEvent::Exited(exit)) => (output, exit),
            other => panic!("did not end: {other:?}"),
        }
    }
}

fn streams() -> (Stdio, io::PipeReader) {
    let (reader, writer) = io::pipe().unwrap();
    let error = writer.try_clone().unwrap();
    let stdio = Stdio {
        input: fs::File::open("/dev/null").unwrap().into(),
        output: OwnedFd::from(writer),
        error: OwnedFd::from(error),
    };
    (stdio, reader)
}
