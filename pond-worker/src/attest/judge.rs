//! What shows that a case got out. The same for controls, which must, and for sandboxes, in which none may.

use super::cases::{Case, Control, HeldBy};
use super::report::Privilege;

/// Progress of output that nobody reads, in MiB: pipes and queues hold less.
const STANDSTILL: u32 = 16;
/// Errors by which a kernel says that it has no such thing.
const LACKING: [i32; 9] = [19, 38, 92, 93, 94, 95, 96, 97, 6];

/// What is known of one case after it was tried.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    /// What the guest says: whether it got out, and how.
    pub(super) report: Option<(bool, String)>,
    /// Where its mark was heard, each with the name's number if there is one.
    pub(super) heard: Vec<(String, String)>,
    /// A secret that it got.
    pub(super) secret: Option<String>,
    /// Whether its mark is in the host's file.
    pub(super) written: bool,
    /// Whether the process it was after does not run any more.
    pub(super) struck: bool,
    /// Whether the sandbox has stopped serving.
    pub(super) silent: bool,
    /// Whether a process list shows the secret.
    pub(super) listed: bool,
    /// How far unread output came.
    pub(super) progress: u32,
}

impl Evidence {
    fn says(&self) -> &str {
        self.report.as_ref().map_or("no report", |(_, told)| told)
    }

    /// What shows that the case succeeded.
    pub(super) fn success(&self, case: &Case) -> Option<String> {
        let heard = |but: &str| {
            self.heard
                .iter()
                .map(|(_, to)| to)
                .find(|to| but.is_empty() || !to.contains(but))
        };
        let at = |to: &String| format!("heard at {to}");
        match case.held_by {
            HeldBy::Unheard | HeldBy::Heard => heard("").map(at),
            HeldBy::OnlyTo(allowed) => heard(allowed).map(at),
            HeldBy::AtMost(count) => {
                let mut names: Vec<&String> = self.heard.iter().map(|(name, _)| name).collect();
                names.sort();
                names.dedup();
                (names.len() > count).then(|| format!("{} names were looked up", names.len()))
            }
            HeldBy::Secret => self.secret.clone().map(|secret| format!("it got {secret}")),
            HeldBy::Unwritten => self.written.then(|| "it wrote the host's file".to_owned()),
            HeldBy::Lives => self.struck.then(|| "the process does not run any more".to_owned()),
            HeldBy::Serves => self.silent.then(|| "the sandbox does not serve any more".to_owned()),
            HeldBy::Unlisted => self.listed.then(|| "a process list shows it".to_owned()),
            HeldBy::Slow => (self.progress >= STANDSTILL).then(|| format!("{} MiB were taken", self.progress)),
            HeldBy::Refused | HeldBy::Bounded => self
                .report
                .as_ref()
                .filter(|(out, _)| *out)
                .map(|(_, told)| told.clone()),
        }
    }

    /// Whether a sandbox held the case, and what shows it.
    pub(super) fn held(&self, case: &Case) -> Result<String, String> {
        // Whatever it was after: a secret is a secret.
        if let Some(secret) = &self.secret {
            return Err(format!("it got {secret}"));
        }
        let success = self.success(case);
        let must_tell = !matches!(
            case.held_by,
            HeldBy::Bounded | HeldBy::Slow | HeldBy::Lives | HeldBy::Serves
        );
        match (case.held_by, success) {
            (HeldBy::Heard, Some(heard)) => Ok(heard),
            (HeldBy::Heard, None) => Err(format!("what is allowed did not pass: {}", self.says())),
            (_, Some(success)) => Err(success),
            // What was not tried was not held.
            (_, None) if must_tell && self.report.is_none() => Err("it was not tried".into()),
            (_, None) => Ok(self.says().chars().take(200).collect()),
        }
    }

    /// Whether a control succeeded; else why it could not, or that it should have.
    pub(super) fn control(&self, case: &Case, privilege: Privilege) -> Result<(), Result<String, String>> {
        if self.success(case).is_some() {
            return Ok(());
        }
        let says = self.says();
        let errno = says
            .rsplit_once("errno=")
            .and_then(|(_, errno)| errno.parse::<i32>().ok());
        match (case.control, errno) {
            (Control::Impossible(why), _) => Err(Ok(why.into())),
            (_, Some(errno)) if LACKING.contains(&errno) => {
                Err(Ok(format!("this kernel has no such thing (errno {errno})")))
            }
            (Control::Root, _) if privilege == Privilege::User => Err(Ok("it needs the host's root".into())),
            (Control::Root, Some(2)) => Err(Ok("there is no such file on this host".into())),
            (Control::Root, Some(errno @ (1 | 13 | 30))) => Err(Ok(format!(
                "the root of this host may not do it either (errno {errno})"
            ))),
            _ => Err(Err(format!("its control did not succeed: {says}"))),
        }
    }
}
