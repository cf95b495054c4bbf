//! One container: how it is asked for, and how it is measured, held still and ended.

use std::collections::{BTreeSet, HashMap};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use bollard::models::{
    ContainerCreateBody, ContainerUpdateBody, HealthConfig, HostConfig, HostConfigCgroupnsModeEnum,
    HostConfigLogConfig, Mount as EngineMount, MountBindOptions, MountBindOptionsPropagationEnum, MountType,
    ResourcesUlimits,
};
use bollard::query_parameters::{CreateContainerOptionsBuilder, RemoveContainerOptionsBuilder};
use pond_core::sandbox::{Access, Enforcement, LimitKind, Limits, SandboxError, Spec};

use super::engine::{Engine, failed, status};
use super::image::Image;
use crate::sandbox::guest::{ETC, HOME, INIT, SHM, TMP};
use crate::sandbox::limits::{Group, Means, Usage};
use crate::sandbox::record::{Folder, Held};
use crate::sandbox::remains::Body;

/// Begins the name of each container of a worker; the rest is the sandbox's id.
pub(super) const PREFIX: &str = "pond-";
/// Marks the containers of one state folder.
pub(super) const STATE_LABEL: &str = "pond.state";
/// Tells people which job it is.
const NAME_LABEL: &str = "pond.sandbox";
/// Where the init finds its socket.
const CONTROL: &str = "/run/pond/control";
/// What programs of the engine itself need for a moment while a container starts.
const STARTING_PIDS: u32 = 64;
/// Parts of `/proc` that tell of the host; and all of `/sys`, which no other backend shows.
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/firmware",
    "/sys",
];
/// How long a container may take to go.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a container is made of.
pub(super) struct Guest<'a> {
    pub(super) spec: &'a Spec,
    pub(super) image: &'a Image,
    /// Inside.
    pub(super) uid: u32,
    pub(super) init: &'a Path,
    pub(super) socket: &'a Path,
    pub(super) etc: &'a Path,
    pub(super) mark: &'a str,
}

impl Guest<'_> {
    /// What the engine is asked for. None of it is secret.
    pub(super) fn config(&self, limits: &Limits) -> Result<ContainerCreateBody, SandboxError> {
        Ok(ContainerCreateBody {
            image: Some(self.image.id.clone()),
            entrypoint: Some(vec![INIT.into()]),
            cmd: Some(vec![CONTROL.into()]),
            user: Some(format!("{0}:{0}", self.uid)),
            working_dir: Some("/".into()),
            hostname: Some("pond".into()),
            // An image could have programs run at times of its own.
            healthcheck: Some(HealthConfig {
                test: Some(vec!["NONE".into()]),
                ..HealthConfig::default()
            }),
            labels: Some(HashMap::from([
                (STATE_LABEL.into(), self.mark.into()),
                (NAME_LABEL.into(), self.spec.name.clone()),
            ])),
            host_config: Some(HostConfig {
                mounts: Some(self.mounts()),
                tmpfs: Some(self.tmpfs()?),
                shm_size: Some(signed(SHM.min(self.spec.limits.tmpfs))),
                ..confined(limits)
            }),
            ..ContainerCreateBody::default()
        })
    }

    fn mounts(&self) -> Vec<EngineMount> {
        let mut mounts = vec![
            bind(self.init, INIT.as_ref(), Access::Read),
            bind(self.socket, CONTROL.as_ref(), Access::Read),
        ];
        mounts.extend(ETC.map(|name| bind(&self.etc.join(name), &Path::new("/etc").join(name), Access::Read)));
        let shown = self.spec.mounts.iter();
        mounts.extend(shown.map(|mount| bind(&mount.host, &mount.inside, mount.access)));
        mounts
    }

    /// Where the job may write beside its folders, each of a limited size; and nothing where the image would have volumes.
    fn tmpfs(&self) -> Result<HashMap<String, String>, SandboxError> {
        let (size, uid) = (self.spec.limits.tmpfs, self.uid);
        // A folder that the image has gives them its mode, so both are the job's own.
        let room = |mode: &str| format!("rw,exec,nosuid,nodev,size={size},mode={mode},uid={uid},gid={uid}");
        let mut places = HashMap::from([(TMP.to_owned(), room("1777")), (HOME.to_owned(), room("0700"))]);
        let inside = |mount: &pond_core::sandbox::Mount| mount.inside.clone();
        let ours: Vec<PathBuf> = self.spec.mounts.iter().map(inside).collect();
        for volume in &self.image.volumes {
            let place = Path::new(volume);
            if places.contains_key(volume) || ours.iter().any(|ours| ours == place) {
                continue;
            }
            let plain = place.is_absolute() && !place.components().any(|part| part == Component::ParentDir);
            if !plain || ours.iter().any(|ours| place.starts_with(ours)) {
                return Err(SandboxError::Unsupported {
                    reason: format!("the image wants a volume at {volume}, where the job's own folders are"),
                    fix: "use an image without it".into(),
                });
            }
            places.insert(volume.clone(), "ro,nosuid,nodev,noexec,size=4k,mode=0755".into());
        }
        Ok(places)
    }
}

/// What holds for every job.
fn confined(limits: &Limits) -> HostConfig {
    let memory = signed(limits.memory);
    HostConfig {
        network_mode: Some("none".into()),
        ipc_mode: Some("private".into()),
        cgroupns_mode: Some(HostConfigCgroupnsModeEnum::PRIVATE),
        readonly_rootfs: Some(true),
        cap_drop: Some(vec!["ALL".into()]),
        // The engine's own filter for system calls stays; the worker's comes on top, by the init.
        security_opt: Some(vec!["no-new-privileges".into()]),
        masked_paths: Some(MASKED.map(str::to_owned).to_vec()),
        memory: Some(memory),
        // Memory and swap together, so that nothing is swapped.
        memory_swap: Some(memory),
        nano_cpus: Some(i64::from(limits.millicpus.max(10)) * 1_000_000),
        pids_limit: Some(i64::from(limits.pids.max(STARTING_PIDS))),
        ulimits: Some(vec![ResourcesUlimits {
            name: Some("core".into()),
            soft: Some(0),
            hard: Some(0),
        }]),
        log_config: Some(HostConfigLogConfig {
            typ: Some("none".into()),
            config: None,
        }),
        ..HostConfig::default()
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

fn bind(host: &Path, inside: &Path, access: Access) -> EngineMount {
    EngineMount {
        typ: Some(MountType::BIND),
        source: Some(host.to_string_lossy().into_owned()),
        target: Some(inside.to_string_lossy().into_owned()),
        read_only: Some(access == Access::Read),
        bind_options: Some(MountBindOptions {
            propagation: Some(MountBindOptionsPropagationEnum::RPRIVATE),
            // What is mounted below would not be read-only.
            non_recursive: Some(true),
            ..MountBindOptions::default()
        }),
        ..EngineMount::default()
    }
}

/// A container, from before it is there until it is gone.
pub(super) struct Container {
    engine: Arc<Engine>,
    name: String,
    uid: u32,
    /// Whether the engine was asked for it.
    asked: AtomicBool,
    /// Its control groups.
    groups: OnceLock<Box<dyn Group>>,
    /// What was seen while they were there.
    breached: Mutex<BTreeSet<LimitKind>>,
}

impl Container {
    pub(super) fn new(engine: Arc<Engine>, folder: &Folder, uid: u32) -> Self {
        Self {
            engine,
            name: format!("{PREFIX}{}", folder.id()),
            uid,
            asked: AtomicBool::new(false),
            groups: OnceLock::new(),
            breached: Mutex::default(),
        }
    }

    pub(super) fn held(&self) -> Held {
        Held {
            uid: Some(self.uid),
            container: Some(self.name.clone()),
            ..Held::default()
        }
    }

    /// Has it made and started.
    pub(super) async fn start(&self, config: ContainerCreateBody) -> Result<(), SandboxError> {
        let docker = self.engine.connect().await?;
        self.asked.store(true, Ordering::Release);
        let named = CreateContainerOptionsBuilder::new().name(&self.name).build();
        let made = docker.create_container(Some(named), config).await;
        made.map_err(failed("the engine does not make the container"))?;
        let started = docker.start_container(&self.name, None).await;
        started.map_err(failed("the engine does not start the container"))
    }

    /// What to say of an init that did not come.
    pub(super) async fn silent(&self) -> SandboxError {
        let state = match self.engine.connect().await {
            Ok(docker) => docker
                .inspect_container(&self.name, None)
                .await
                .ok()
                .and_then(|found| found.state),
            Err(error) => return error,
        };
        let code = state.and_then(|state| state.exit_code).unwrap_or_default();
        SandboxError::failed(format!("the container's init does not come in (exit code {code})"))
    }

    /// Finds the control groups of the init that came in, and puts the limit of processes in force that the engine could not
    /// have started under.
    pub(super) async fn met(&self, pid: u32, limits: &Limits) -> Result<(), SandboxError> {
        let groups = Means::around(pid).ok_or_else(|| SandboxError::Unsupported {
            reason: "the control groups of the engine's containers cannot be seen by this worker".into(),
            fix: "run worker and engine side by side on one host, or use bubblewrap".into(),
        })?;
        let _ = self.groups.set(groups);
        if limits.pids < STARTING_PIDS {
            let update = ContainerUpdateBody {
                pids_limit: Some(limits.pids.into()),
                ..ContainerUpdateBody::default()
            };
            let updated = self.engine.connect().await?.update_container(&self.name, update).await;
            updated.map_err(failed("the engine does not limit the container's processes"))?;
        }
        Ok(())
    }

    /// What the control groups tell, or the engine once they have gone with the container's last process.
    fn measure(&self) -> Result<Usage, SandboxError> {
        let group = self
            .groups
            .get()
            .ok_or_else(|| SandboxError::failed("the sandbox has gone"))?;
        let usage = group.usage();
        let usage = usage.map_err(|error| SandboxError::io("a sandbox's use cannot be read", error))?;
        if usage.pids.is_some() {
            return Ok(usage);
        }
        let state = self.engine.wait_for(async |docker| {
            let found = docker.inspect_container(&self.name, None).await;
            Ok(found.map_err(failed("the container cannot be looked at"))?.state)
        })?;
        let out_of_memory = state.is_some_and(|state| state.oom_killed == Some(true));
        Ok(Usage {
            breached: out_of_memory.then_some(LimitKind::Memory).into_iter().collect(),
            ..Usage::default()
        })
    }
}

impl Body for Container {
    fn enforcement(&self) -> Enforcement {
        Enforcement::Engine
    }

    fn usage(&self) -> Result<Usage, SandboxError> {
        let usage = self.measure()?;
        let mut breached = self.breached.lock().expect("no holder of this lock panics");
        breached.extend(usage.breached.iter().copied());
        Ok(Usage {
            breached: breached.iter().copied().collect(),
            ..usage
        })
    }

    fn freeze(&self) -> Result<(), SandboxError> {
        self.engine.wait_for(async |docker| {
            let frozen = docker.pause_container(&self.name).await;
            frozen.map_err(failed("a sandbox cannot be frozen"))
        })
    }

    fn thaw(&self) -> Result<(), SandboxError> {
        self.engine.wait_for(async |docker| {
            let thawed = docker.unpause_container(&self.name).await;
            thawed.map_err(failed("a sandbox cannot be thawed"))
        })
    }

    fn end(&self) -> Result<(), SandboxError> {
        if !self.asked.load(Ordering::Acquire) {
            return Ok(());
        }
        self.engine.wait_for(async |docker| remove(&docker, &self.name).await)
    }
}

/// Ends a container and removes it, with what it wrote; one that is not there is no matter.
pub(super) async fn remove(docker: &bollard::Docker, name: &str) -> Result<(), SandboxError> {
    let until = Instant::now() + PATIENCE;
    loop {
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        match docker.remove_container(name, Some(options)).await {
            Ok(()) => return Ok(()),
            Err(error) if status(&error) == Some(404) => return Ok(()),
            // It is being removed already, or just ending.
            Err(error) if status(&error) == Some(409) && Instant::now() < until => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(error) => return Err(failed("a container cannot be removed")(error)),
        }
    }
}
