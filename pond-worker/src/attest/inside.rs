//! The battery in its closed world: controls first, then every backend and profile.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use pond_core::sandbox::{BackendKind, Profile, Sandbox};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

use super::cases::{self, Case, HeldBy, When};
use super::ear::Ear;
use super::jobs::{Job, Jobs};
use super::judge::Evidence;
use super::report::{Finding, NotShown, Privilege, Report};
use super::town::Town;
use crate::sandbox::{BackendSettings, Host, HostSettings, open};

/// What every secret of a battery begins with.
const SECRET: &str = "canary";
/// How long many cases together may take, and one alone.
const MANY: Duration = Duration::from_secs(60);
const ALONE: Duration = Duration::from_secs(15);
/// How long output is left unread.
const UNREAD: Duration = Duration::from_millis(1500);

/// What the battery is told by whoever made its world.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Plan {
    /// Eight digits of this world alone.
    pub(super) world: String,
    pub(super) privilege: Privilege,
    pub(super) backends: Vec<String>,
    pub(super) uids: Option<(u32, u32)>,
    pub(super) shown: Vec<PathBuf>,
    pub(super) groups: Vec<String>,
}

impl Plan {
    /// What every mark begins with.
    pub(super) fn prefix(&self) -> String {
        format!("pa{}", self.world)
    }

    /// A secret of this world.
    pub(super) fn secret(&self, of: &str) -> String {
        format!("{SECRET}-{}-{of}", self.world)
    }

    fn victim_name(&self) -> String {
        format!("pond-attest-{}", self.world)
    }
}

/// Runs the battery of a folder and leaves its result there. To be called in a closed world alone.
///
/// # Errors
/// When it cannot run, as where there is any network beside `lo`.
pub async fn within(folder: &Path) -> io::Result<()> {
    let links = fs::read_to_string("/proc/self/net/dev")?;
    let mut links = links.lines().skip(2).filter_map(|line| line.split(':').next());
    if links.any(|link| link.trim() != "lo") {
        return Err(io::Error::other(
            "there is a network beside lo: the battery runs in a closed one alone",
        ));
    }
    let plan: Plan = serde_json::from_slice(&fs::read(folder.join("plan.json"))?)?;
    // Whoever made this world holds the other end.
    let (gone, abandoned) = tokio::sync::oneshot::channel::<()>();
    std::thread::spawn(move || {
        let _ = io::Read::read_to_end(&mut io::stdin(), &mut Vec::new());
        drop(gone);
    });
    tokio::select! {
        _ = abandoned => Err(io::Error::other("nobody waits for the battery")),
        report = Battery::run(folder, plan) => {
            let result = folder.join("result");
            fs::write(&result, serde_json::to_vec(&report?)?)?;
            fs::rename(result, folder.join("result.json"))
        }
    }
}

/// Where cases are tried.
#[derive(Clone, Copy, PartialEq)]
enum Stage {
    Control,
    Sandbox,
}

struct Battery {
    folder: PathBuf,
    plan: Plan,
    town: Town,
    ear: Ear,
    victim: Child,
    chosen: Vec<(usize, &'static str, &'static Case)>,
    jobs: usize,
    report: Report,
}

impl Battery {
    async fn run(folder: &Path, plan: Plan) -> io::Result<Report> {
        lay_secrets(folder, &plan)?;
        let town = Town::build(folder, &format!("pond-attest-worker-{}", plan.world)).await?;
        let ear = Ear::new(folder, &plan.prefix());
        let victim = victim(folder, &plan).await?;
        let wanted = |group: &str| plan.groups.is_empty() || plan.groups.iter().any(|own| own == group);
        let chosen = cases::all().filter(|(_, group, _)| wanted(group)).collect();
        let mut battery = Self {
            folder: folder.to_owned(),
            plan,
            town,
            ear,
            victim,
            chosen,
            jobs: 0,
            report: Report::default(),
        };
        let ran = battery.all().await;
        let _ = battery.victim.kill().await;
        for left in ["/tmp/victim-secret", "/dev/shm/victim-secret"] {
            let _ = fs::remove_file(left);
        }
        ran.map(|()| battery.report)
    }

    async fn all(&mut self) -> io::Result<()> {
        let failed = self.controls().await?;
        let state = self.folder.join("state");
        let settings = HostSettings {
            uid_range: self.plan.uids.map(|(first, last)| first..=last),
            ..HostSettings::new(state)
        };
        let host = Host::open(settings).map_err(io::Error::other)?;
        let mut phase = b'd';
        for name in self.plan.backends.clone() {
            let kind = BackendKind::ALL
                .iter()
                .find(|(own, _)| *own == name)
                .map(|(_, kind)| *kind);
            let kind = kind.ok_or_else(|| io::Error::other(format!("there is no backend {name}")))?;
            let sandbox = open(kind, &host, &BackendSettings::default());
            let profiles = match kind {
                BackendKind::None => &[Profile::None][..],
                _ => &[Profile::UntrustedCodeWrite, Profile::UntrustedCodeRead],
            };
            for profile in profiles {
                self.backend(sandbox.as_ref(), *profile, char::from(phase), &failed)
                    .await?;
                phase += 1;
            }
        }
        tokio::task::spawn_blocking(move || host.close())
            .await?
            .map_err(io::Error::other)
    }

    /// Shows that each case succeeds without a sandbox; those that do not, though they should.
    async fn controls(&mut self) -> io::Result<BTreeMap<usize, String>> {
        let mut careless = self.town.careless().await?;
        fs::create_dir(self.folder.join("out"))?;
        let mut tries = BTreeMap::new();
        let all = self.chosen.clone();
        let (alone, together): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|(_, _, case)| case.held_by == HeldBy::Lives);
        self.pass(&together, Stage::Control, 'c', &mut tries, async |battery, lines| {
            battery.without_sandbox(lines).await
        })
        .await?;
        for one in alone {
            self.pass(&[one], Stage::Control, 'c', &mut tries, async |battery, lines| {
                battery.without_sandbox(lines).await
            })
            .await?;
        }
        careless.shutdown().await;
        self.town.forget();
        let listed = process_list_shows(&self.plan.secret("victim"));
        let progress = progress(&self.folder.join("out"));
        let mut failed = BTreeMap::new();
        let mut heard = self.heard('c')?;
        for (number, _, case) in &self.chosen {
            let evidence = Evidence {
                heard: heard.remove(number).unwrap_or_default(),
                listed,
                progress,
                ..tries.remove(number).unwrap_or_default()
            };
            match evidence.control(case, self.plan.privilege) {
                Ok(()) => self.report.shown += 1,
                Err(Ok(reason)) => self.report.not_shown.push(NotShown {
                    name: case.name.into(),
                    privilege: self.plan.privilege,
                    reason,
                }),
                Err(Err(why)) => drop(failed.insert(*number, why)),
            }
        }
        Ok(failed)
    }

    /// Tries everything on one backend under one profile.
    async fn backend(
        &mut self,
        sandbox: &dyn Sandbox,
        profile: Profile,
        phase: char,
        failed: &BTreeMap<usize, String>,
    ) -> io::Result<()> {
        let secret = self.plan.secret("neighbour");
        let shown = self.plan.shown.clone();
        let jobs = Jobs::new(&self.folder, &self.folder.join("intruder"), &shown, "own".into())?;
        let neighbours = Jobs::new(&self.folder, &self.folder.join("intruder"), &[], secret.clone())?;
        let mut neighbour = None;
        // Two unconfined jobs would want the same ports of the host.
        if profile.is_confined() {
            let job = self.job(&neighbours, sandbox, profile).await?;
            job.victim(&secret, &self.plan.victim_name()).await?;
            neighbour = Some(job);
        }
        let whole = profile != Profile::UntrustedCodeRead;
        let fits = |case: &Case| whole || !(case.needs_proxy || case.when == When::Alone);
        let all: Vec<_> = self.chosen.iter().copied().filter(|(_, _, case)| fits(case)).collect();
        let mut tries = BTreeMap::new();

        let of = |when| {
            all.iter()
                .copied()
                .filter(|(_, _, case)| case.when == when)
                .collect::<Vec<_>>()
        };
        let job = self.job(&jobs, sandbox, profile).await?;
        self.together(&job, &of(When::Together), phase, &mut tries).await?;
        job.end().await?;

        let after = of(When::AfterProxy);
        if !after.is_empty() {
            let mut job = self.job(&jobs, sandbox, profile).await?;
            if let Some(proxy) = job.proxy.take() {
                proxy.close().await;
            }
            self.together(&job, &after, phase, &mut tries).await?;
            job.end().await?;
        }
        for one in of(When::Alone) {
            let job = self.job(&jobs, sandbox, profile).await?;
            self.alone(&job, one, phase, &mut tries).await?;
            job.end().await?;
        }
        if let Some(neighbour) = neighbour {
            neighbour.end().await?;
        }
        self.town.forget();
        self.judge(sandbox.kind(), profile, phase, &all, tries, failed)
    }

    async fn job(&mut self, jobs: &Jobs, sandbox: &dyn Sandbox, profile: Profile) -> io::Result<Job> {
        self.jobs += 1;
        jobs.start(self.jobs, sandbox, profile).await
    }

    async fn together(
        &self,
        job: &Job,
        chosen: &[(usize, &'static str, &'static Case)],
        phase: char,
        tries: &mut BTreeMap<usize, Evidence>,
    ) -> io::Result<()> {
        // In no argument and no file of the host.
        let secret = format!("jobsecret-{}", self.plan.world);
        let mut listed = false;
        let within = MANY;
        self.pass(chosen, Stage::Sandbox, phase, tries, async |_, lines| {
            let look = || listed = process_list_shows(&secret);
            job.run(lines, &[("SECRET", &secret)], within, look).await
        })
        .await?;
        let serving = job
            .run("0\tnothing\n".into(), &[], ALONE, || ())
            .await
            .unwrap_or_default();
        for (number, _, _) in chosen {
            let tried = tries.entry(*number).or_default();
            tried.listed = listed;
            tried.silent = !serving.contains("R\tend");
        }
        Ok(())
    }

    async fn alone(
        &self,
        job: &Job,
        one: (usize, &'static str, &'static Case),
        phase: char,
        tries: &mut BTreeMap<usize, Evidence>,
    ) -> io::Result<()> {
        if one.2.held_by == HeldBy::Slow {
            let lines = self.line(one.0, one.2, Stage::Sandbox, phase, 0)?;
            job.unread(lines, UNREAD).await?;
            let progress = progress(&job.output);
            let report = (progress > 0).then(|| (false, format!("stands still after {progress} MiB")));
            tries.insert(
                one.0,
                Evidence {
                    report,
                    progress,
                    ..Evidence::default()
                },
            );
            return Ok(());
        }
        self.pass(&[one], Stage::Sandbox, phase, tries, async |_, lines| {
            // A sandbox that was ended for what it took says no more.
            Ok(job.run(lines, &[], ALONE, || ()).await.unwrap_or_default())
        })
        .await
    }

    /// Lets cases be tried, and gathers what there is to see afterwards, beside what was heard.
    async fn pass(
        &self,
        chosen: &[(usize, &'static str, &'static Case)],
        stage: Stage,
        phase: char,
        tries: &mut BTreeMap<usize, Evidence>,
        run: impl AsyncFnOnce(&Self, String) -> io::Result<String>,
    ) -> io::Result<()> {
        let (mut lines, mut preys) = (String::new(), BTreeMap::new());
        for (number, _, case) in chosen {
            let mut pid = 0;
            if case.held_by == HeldBy::Lives {
                let prey = Command::new("sleep").arg("1000").kill_on_drop(true).spawn()?;
                pid = prey.id().unwrap_or(0);
                preys.insert(*number, (pid, prey));
            }
            if case.held_by == HeldBy::Unwritten {
                let written = self.written(*number);
                fs::write(&written, "")?;
                fs::set_permissions(&written, fs::Permissions::from_mode(0o666))?;
            }
            lines += &self.line(*number, case, stage, phase, pid)?;
        }
        let said = run(self, lines).await?;
        let mut reports = reports(&said);
        for (number, _, case) in chosen {
            let report = reports.remove(number);
            let mark = self.mark(phase, *number);
            let secret = report.as_ref().and_then(|(_, told)| secret_in(told));
            let written = case.held_by == HeldBy::Unwritten
                && fs::read_to_string(self.written(*number)).is_ok_and(|text| text.contains(&mark));
            let struck = preys.get(number).is_some_and(|(pid, _)| !runs(*pid));
            tries.insert(
                *number,
                Evidence {
                    report,
                    secret,
                    written,
                    struck,
                    ..Evidence::default()
                },
            );
        }
        for (_, mut prey) in preys.into_values() {
            let _ = prey.kill().await;
        }
        Ok(())
    }

    /// Has the world itself try a plan, with no sandbox around it.
    async fn without_sandbox(&self, lines: String) -> io::Result<String> {
        let talk = async {
            let mut stream = UnixStream::connect(self.folder.join("control")).await?;
            stream.write_all(lines.as_bytes()).await?;
            stream.shutdown().await?;
            let mut said = Vec::new();
            stream.read_to_end(&mut said).await?;
            Ok(String::from_utf8_lossy(&said).into_owned())
        };
        tokio::time::timeout(MANY * 2, talk).await.map_err(io::Error::other)?
    }

    fn mark(&self, phase: char, number: usize) -> String {
        format!("{}{phase}{number:03}", self.plan.prefix())
    }

    fn written(&self, number: usize) -> PathBuf {
        self.folder.join(format!("written-{number}"))
    }

    /// What the guest is told of a case.
    fn line(&self, number: usize, case: &Case, stage: Stage, phase: char, prey: u32) -> io::Result<String> {
        let folder = self.folder.display().to_string();
        let out = self.folder.join("out").display().to_string();
        let victim = self.victim.id().unwrap_or(0).to_string();
        let control = stage == Stage::Control;
        let mut values = vec![
            ("{folder}/written", self.written(number).display().to_string()),
            ("{folder}", folder.clone()),
            ("{canary-name}", SECRET.to_owned()),
            ("{canary}", format!("{folder}/{SECRET}")),
            ("{world}", self.plan.world.clone()),
            ("{pid}", victim.clone()),
            ("{prey}", prey.to_string()),
            ("{one}", if control { victim } else { "1".to_owned() }),
            ("{output}", if control { out.clone() } else { "/output".to_owned() }),
            ("{home}", if control { out.clone() } else { "/home/pond".to_owned() }),
        ];
        for space in ["user", "net", "mnt", "pid", "ipc", "uts", "cgroup"] {
            let own = fs::read_link(format!("/proc/self/ns/{space}")).unwrap_or_default();
            values.push((ns_key(space), own.display().to_string()));
        }
        let mark = self.mark(phase, number);
        let mut line = number.to_string();
        for word in case.act {
            let mut word = word.replace("{m}", &mark);
            for (key, value) in &values {
                word = word.replace(key, value);
            }
            if control && let Some(rest) = word.strip_prefix("/work") {
                word = format!("{out}{rest}");
            }
            if word.contains("{length}") {
                let body = word.split_once("\\r\\n\\r\\n").map_or(0, |(_, body)| body.len());
                word = word.replace("{length}", &body.to_string());
            }
            line.push('\t');
            line += &word;
        }
        line.push('\n');
        Ok(line)
    }

    /// What was heard of one phase, by the number of the case.
    fn heard(&self, phase: char) -> io::Result<BTreeMap<usize, Vec<(String, String)>>> {
        let mut heard: BTreeMap<usize, Vec<(String, String)>> = BTreeMap::new();
        for (mark, name, place) in self.ear.all()? {
            if let Some(number) = mark.strip_prefix(phase).and_then(|number| number.parse().ok()) {
                heard.entry(number).or_default().push((name, place));
            }
        }
        let sockets = self.town.heard();
        for (number, _, _) in &self.chosen {
            if sockets.contains(&self.mark(phase, *number)) {
                let place = "a socket of the host".to_owned();
                heard.entry(*number).or_default().push((String::new(), place));
            }
        }
        Ok(heard)
    }

    fn judge(
        &mut self,
        backend: BackendKind,
        profile: Profile,
        phase: char,
        chosen: &[(usize, &'static str, &'static Case)],
        mut tries: BTreeMap<usize, Evidence>,
        failed: &BTreeMap<usize, String>,
    ) -> io::Result<()> {
        let mut heard = self.heard(phase)?;
        for (number, group, case) in chosen {
            let evidence = Evidence {
                heard: heard.remove(number).unwrap_or_default(),
                ..tries.remove(number).unwrap_or_default()
            };
            let judged = match (evidence.held(case), failed.get(number)) {
                (Ok(_), Some(why)) => Err(why.clone()),
                (judged, _) => judged,
            };
            self.report.cases.push(Finding {
                name: case.name.into(),
                group: (*group).into(),
                backend: backend.as_str().into(),
                privilege: self.plan.privilege,
                profile: profile.as_str().into(),
                held: judged.is_ok(),
                detail: judged.unwrap_or_else(|why| why),
            });
        }
        Ok(())
    }
}

fn ns_key(space: &str) -> &'static str {
    match space {
        "user" => "{ns-user}",
        "net" => "{ns-net}",
        "mnt" => "{ns-mnt}",
        "pid" => "{ns-pid}",
        "ipc" => "{ns-ipc}",
        "uts" => "{ns-uts}",
        _ => "{ns-cgroup}",
    }
}

fn lay_secrets(folder: &Path, plan: &Plan) -> io::Result<()> {
    fs::write(folder.join(SECRET), plan.secret("file"))?;
    let state = folder.join("state");
    fs::create_dir(&state)?;
    fs::write(state.join(SECRET), plan.secret("state"))
}

/// A process of the host that holds a secret in every way.
async fn victim(folder: &Path, plan: &Plan) -> io::Result<Child> {
    let secret = plan.secret("victim");
    let mut victim = Command::new(folder.join("intruder"))
        .args(["victim", &secret, "7777", &plan.victim_name()])
        .env("SECRET", &secret)
        .current_dir(folder)
        .stdin(Stdio::from(fs::File::open(folder.join(SECRET))?))
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut line = String::new();
    if let Some(stdout) = victim.stdout.take() {
        BufReader::new(stdout).read_line(&mut line).await?;
    }
    match line.trim() {
        "ready" => Ok(victim),
        _ => Err(io::Error::other("the victim does not start")),
    }
}

/// What a guest said of each case.
fn reports(said: &str) -> BTreeMap<usize, (bool, String)> {
    let lines = said.lines().filter_map(|line| {
        let mut words = line.strip_prefix("R\t")?.splitn(3, '\t');
        let number: usize = words.next()?.parse().ok()?;
        let out = words.next()? == "out";
        Some((number, (out, words.next().unwrap_or_default().to_owned())))
    });
    // The first word counts: one that was ended afterwards is told of again.
    let mut seen = BTreeSet::new();
    lines.filter(|(number, _)| seen.insert(*number)).collect()
}

fn secret_in(told: &str) -> Option<String> {
    let at = told.find(&format!("{SECRET}-"))?;
    Some(
        told[at..]
            .chars()
            .take_while(|c| c.is_ascii_alphanumeric() || *c == '-')
            .collect(),
    )
}

/// Whether a process runs: neither dead nor stopped.
fn runs(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|state| !matches!(state, 'T' | 't' | 'Z' | 'X'))
}

/// Whether the arguments of any process of the host hold a text.
fn process_list_shows(text: &str) -> bool {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut lists = entries.map(|entry| fs::read(entry.path().join("cmdline")).unwrap_or_default());
    lists.any(|list| list.windows(text.len()).any(|window| window == text.as_bytes()))
}

fn progress(output: &Path) -> u32 {
    let text = fs::read_to_string(output.join("progress"));
    text.ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_report_of_a_case_counts() {
        let said = "R\t3\tout\tdone\nnoise\nR\t3\theld\tended\nR\tend\theld\t\nR\t4\theld\t\n";
        let reports = reports(said);
        assert_eq!(reports[&3], (true, "done".to_owned()));
        assert_eq!(reports[&4], (false, String::new()));
        assert_eq!(reports.len(), 2);
        assert_eq!(secret_in("x canary-1a-file\\n y").as_deref(), Some("canary-1a-file"));
    }
}
