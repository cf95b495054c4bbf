//! The cases of the battery, as data. To add one: a line here, and an arm in `intruder/main.rs` where its act is new.
//!
//! In acts `{m}` stands for the case's mark, which is looked for on the wire; the other names in braces are filled in by
//! `inside`. `\r \n \0 \xHH` are read by the guest.

mod host;
mod network;
mod proxy;

/// What tells that a case was held. The guest's own word counts for its own system calls alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeldBy {
    /// Its mark is nowhere on the wire, and no socket of the host heard it.
    Unheard,
    /// Its mark went to this address at most.
    OnlyTo(&'static str),
    /// At most so many names that carry its mark were looked up.
    AtMost(usize),
    /// Its mark is on the wire: what is allowed passes.
    Heard,
    /// No secret of the host or of another job is in what it said.
    Secret,
    /// The kernel refused it.
    Refused,
    /// The host's file does not hold its mark.
    Unwritten,
    /// The process it was after lives and runs.
    Lives,
    /// The sandbox goes on serving.
    Serves,
    /// No process list of the host shows a job's secret.
    Unlisted,
    /// It did not get all that it asked for.
    Bounded,
    /// Its output stands still while nobody reads it.
    Slow,
}

/// What a control needs to succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// Nothing.
    Plain,
    /// The host's root: shown by the battery of a worker that is root.
    Root,
    /// It cannot succeed anywhere, for this reason.
    Impossible(&'static str),
}

/// In which sandbox a case runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// With others.
    Together,
    /// Alone.
    Alone,
    /// When the proxy has gone.
    AfterProxy,
}

/// A case.
#[derive(Debug)]
pub struct Case {
    /// Its name, of its own.
    pub name: &'static str,
    /// What it tries, for people.
    pub what: &'static str,
    /// What the guest is told.
    pub act: &'static [&'static str],
    /// What tells that it was held.
    pub held_by: HeldBy,
    /// What its control needs.
    pub control: Control,
    /// In which sandbox.
    pub when: When,
    /// Whether it is for profiles that have an egress proxy.
    pub needs_proxy: bool,
}

/// Cases of one subject.
#[derive(Debug)]
pub struct Group {
    /// Its name.
    pub name: &'static str,
    /// Its cases.
    pub cases: &'static [Case],
}

/// All groups.
pub const GROUPS: &[Group] = &[
    network::DIRECT,
    network::INSIDE,
    network::UDP,
    network::DNS,
    network::RAW,
    proxy::NAMES,
    proxy::SPELLINGS,
    proxy::LITERALS,
    proxy::PORTS,
    proxy::ANSWERS,
    proxy::TLS,
    proxy::PLAIN,
    proxy::NESTED,
    proxy::GONE,
    proxy::BROKER,
    host::FILES,
    host::PROCESSES,
    host::KERNEL,
    host::BOMBS,
];

/// Every case with its group, numbered in order.
pub fn all() -> impl Iterator<Item = (usize, &'static str, &'static Case)> {
    let flat = GROUPS
        .iter()
        .flat_map(|group| group.cases.iter().map(|case| (group.name, case)));
    flat.enumerate().map(|(number, (group, case))| (number, group, case))
}

const fn case(name: &'static str, what: &'static str, act: &'static [&'static str], held_by: HeldBy) -> Case {
    Case {
        name,
        what,
        act,
        held_by,
        control: Control::Plain,
        when: When::Together,
        needs_proxy: false,
    }
}

impl Case {
    const fn rooted(mut self) -> Self {
        self.control = Control::Root;
        self
    }

    const fn impossible(mut self, why: &'static str) -> Self {
        self.control = Control::Impossible(why);
        self
    }

    const fn proxied(mut self) -> Self {
        self.needs_proxy = true;
        self
    }

    const fn alone(mut self) -> Self {
        self.when = When::Alone;
        self
    }

    const fn after_proxy(mut self) -> Self {
        self.when = When::AfterProxy;
        self
    }
}

type Act = &'static [&'static str];

const fn unheard(name: &'static str, what: &'static str, act: Act) -> Case {
    case(name, what, act, HeldBy::Unheard)
}

const fn heard(name: &'static str, what: &'static str, act: Act) -> Case {
    case(name, what, act, HeldBy::Heard)
}

const fn only_good(name: &'static str, what: &'static str, act: Act) -> Case {
    case(name, what, act, HeldBy::OnlyTo(super::town::GOOD))
}

const fn only_model(name: &'static str, what: &'static str, act: Act) -> Case {
    case(name, what, act, HeldBy::OnlyTo(super::town::MODEL))
}

const fn at_most(count: usize, name: &'static str, what: &'static str, act: Act) -> Case {
    case(name, what, act, HeldBy::AtMost(count))
}

const fn secret(name: &'static str, what: &'static str, act: Act) -> Case {
    case(name, what, act, HeldBy::Secret)
}

const fn refused(name: &'static str, what: &'static str, act: Act) -> Case {
    case(name, what, act, HeldBy::Refused)
}

const fn unwritten(name: &'static str, what: &'static str, act: Act) -> Case {
    case(name, what, act, HeldBy::Unwritten)
}

const fn lives(name: &'static str, what: &'static str, act: Act) -> Case {
    case(name, what, act, HeldBy::Lives)
}

const fn serves(name: &'static str, what: &'static str, act: Act) -> Case {
    case(name, what, act, HeldBy::Serves)
}

const fn unlisted(name: &'static str, what: &'static str, act: Act) -> Case {
    case(name, what, act, HeldBy::Unlisted)
}

const fn bounded(name: &'static str, what: &'static str, act: Act) -> Case {
    case(name, what, act, HeldBy::Bounded)
}

const fn slow(name: &'static str, what: &'static str, act: Act) -> Case {
    case(name, what, act, HeldBy::Slow)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_case_has_a_name_of_its_own_and_there_is_room_for_their_numbers() {
        let names: BTreeSet<&str> = all().map(|(_, _, case)| case.name).collect();
        let count = all().count();
        assert_eq!(names.len(), count, "a name stands there twice");
        assert!((150..1000).contains(&count), "{count}");
        for group in GROUPS {
            assert!(group.cases.len() >= 10 || group.name == "proxy-gone", "{}", group.name);
        }
    }
}
