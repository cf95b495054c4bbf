//! The registries that this host's own pip, npm and cargo are set up with: what every stage with egress may reach.
//!
//! Where a tool is set up with nothing, its public registry counts. Only what the tools' own settings name is known: a
//! registry that hands its files out at another host needs a rule for that host.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};

use pond_core::outbound::{Host, HostPattern, MAX_PATTERNS};
use toml_edit::{DocumentMut, Item, TableLike};
use url::Url;

/// The longest file of settings that is read.
const MAX_FILE: u64 = 1 << 20;

const PIP: [&str; 2] = ["pypi.org", "files.pythonhosted.org"];
const NPM: [&str; 1] = ["registry.npmjs.org"];
const CARGO: [&str; 2] = ["index.crates.io", "static.crates.io"];

/// Why the list of `POND_EGRESS_DEFAULTS` does not read. Never tells its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected none, or up to {MAX_PATTERNS} host rules with commas between them; entry {position} is no host rule")]
pub struct BadDefaults {
    /// Which entry, from 1.
    pub position: usize,
}

/// Hosts that are reached beside the rules.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EgressDefaults(Vec<HostPattern>);

impl EgressDefaults {
    /// Reads `POND_EGRESS_DEFAULTS`: `none`, or host rules with commas between them.
    ///
    /// # Errors
    /// When it is neither.
    pub fn parse(text: &str) -> Result<Self, BadDefaults> {
        if text.trim() == "none" {
            return Ok(Self::default());
        }
        let mut found = BTreeSet::new();
        for (index, entry) in text.split(',').enumerate() {
            let bad = BadDefaults { position: index + 1 };
            if index == MAX_PATTERNS {
                return Err(bad);
            }
            // Beside others it is meant as it stands alone, and would be read as a host.
            if entry.trim() == "none" {
                return Err(bad);
            }
            found.insert(HostPattern::parse(entry.trim()).map_err(|_| bad)?);
        }
        Ok(Self(found.into_iter().collect()))
    }

    /// Looks the tools' settings up: in this environment, and in the files that they would read beneath `root`, which is `/`
    /// but for tests. What cannot be read counts as not there.
    pub fn find(environment: &BTreeMap<String, String>, root: &Path) -> Self {
        let host = ToolHost { environment, root };
        let mut found = BTreeSet::new();
        for (own, public) in [
            (host.pip(), &PIP[..]),
            (host.npm(), &NPM[..]),
            (host.cargo(), &CARGO[..]),
        ] {
            let public = public.iter().map(|host| HostPattern::parse(host).expect("a host"));
            found.extend(own.extra);
            match own.main.is_empty() {
                true => found.extend(public),
                false => found.extend(own.main),
            }
        }
        Self(found.into_iter().collect())
    }

    /// The hosts.
    pub fn hosts(&self) -> &[HostPattern] {
        &self.0
    }
}

/// What one tool is set up with.
#[derive(Default)]
struct Own {
    /// In place of its public registry.
    main: Vec<HostPattern>,
    /// Beside it.
    extra: Vec<HostPattern>,
}

/// The host as its tools see it.
struct ToolHost<'h> {
    environment: &'h BTreeMap<String, String>,
    root: &'h Path,
}

impl ToolHost<'_> {
    fn variable(&self, name: &str) -> Option<&str> {
        let text = self.environment.get(name).map(|text| text.trim());
        text.filter(|text| !text.is_empty())
    }

    fn home(&self) -> Option<PathBuf> {
        self.variable("HOME").map(PathBuf::from)
    }

    /// The text of a file, by its path on the host.
    fn text(&self, path: &Path) -> Option<String> {
        let path = self.root.join(path.strip_prefix("/").ok()?);
        let mut text = String::new();
        let file = std::fs::File::open(path).ok()?;
        if !file.metadata().ok()?.is_file() {
            return None;
        }
        file.take(MAX_FILE).read_to_string(&mut text).ok()?;
        Some(text)
    }

    /// The files of pip that there are, those that count more behind the others; then its environment.
    fn pip(&self) -> Own {
        let mut files: Vec<PathBuf> = Vec::new();
        let everywhere = self.variable("XDG_CONFIG_DIRS").unwrap_or("/etc/xdg");
        files.extend(
            everywhere
                .split(':')
                .map(|folder| Path::new(folder).join("pip/pip.conf")),
        );
        files.push("/etc/pip.conf".into());
        if let Some(home) = self.home() {
            files.push(home.join(".pip/pip.conf"));
            let own = self.variable("XDG_CONFIG_HOME").map(PathBuf::from);
            files.push(own.unwrap_or_else(|| home.join(".config")).join("pip/pip.conf"));
        }
        files.extend(
            self.variable("VIRTUAL_ENV")
                .map(|folder| Path::new(folder).join("pip.conf")),
        );
        match self.variable("PIP_CONFIG_FILE") {
            // How pip is told to read none.
            Some("/dev/null") => files.clear(),
            other => files.extend(other.map(PathBuf::from)),
        }
        let (mut main, mut extra) = (Vec::new(), Vec::new());
        for text in files.iter().filter_map(|file| self.text(file)) {
            for (name, value) in ini(&text, &["global", "install", "download"]) {
                match name.replace('_', "-").as_str() {
                    "index-url" => main = hosts(&value),
                    "extra-index-url" => extra = hosts(&value),
                    _ => {}
                }
            }
        }
        if let Some(urls) = self.variable("PIP_INDEX_URL") {
            main = hosts(urls);
        }
        if let Some(urls) = self.variable("PIP_EXTRA_INDEX_URL") {
            extra = hosts(urls);
        }
        Own { main, extra }
    }

    fn npm(&self) -> Own {
        let any_case = |name: &str| self.variable(name).or_else(|| self.variable(&name.to_uppercase()));
        let file = |name: &str, usual: Option<PathBuf>| any_case(name).map(PathBuf::from).or(usual);
        let global = ["/etc/npmrc", "/usr/etc/npmrc", "/usr/local/etc/npmrc"].map(PathBuf::from);
        let own = file("npm_config_userconfig", self.home().map(|home| home.join(".npmrc")));
        let files = global
            .into_iter()
            .chain(file("npm_config_globalconfig", None))
            .chain(own);
        let mut found = Own::default();
        for text in files.filter_map(|file| self.text(&file)) {
            for (name, value) in ini(&text, &[""]) {
                match name.as_str() {
                    "registry" => found.main = hosts(&value),
                    // A registry for one scope of packages.
                    scoped if scoped.starts_with('@') && scoped.ends_with(":registry") => {
                        found.extra.extend(hosts(&value));
                    }
                    _ => {}
                }
            }
        }
        if let Some(url) = any_case("npm_config_registry") {
            found.main = hosts(url);
        }
        found
    }

    fn cargo(&self) -> Own {
        let folder = self.variable("CARGO_HOME").map(PathBuf::from);
        let folder = folder.or_else(|| self.home().map(|home| home.join(".cargo")));
        let text = folder.and_then(|folder| {
            let file = |name: &str| self.text(&folder.join(name));
            file("config.toml").or_else(|| file("config"))
        });
        let config: DocumentMut = text.and_then(|text| text.parse().ok()).unwrap_or_default();
        let mut found = Own {
            main: replacement(&config),
            extra: Vec::new(),
        };
        for (_, registry) in tables(&config, "registries") {
            found.extra.extend(
                registry
                    .get("index")
                    .and_then(Item::as_str)
                    .map(hosts)
                    .unwrap_or_default(),
            );
        }
        for (name, url) in self.environment {
            if name.starts_with("CARGO_REGISTRIES_") && name.ends_with("_INDEX") {
                found.extra.extend(hosts(url));
            }
        }
        found
    }
}

/// What stands in for crates.io, by however many steps.
fn replacement(config: &DocumentMut) -> Vec<HostPattern> {
    let sources: BTreeMap<&str, &dyn TableLike> = tables(config, "source").collect();
    let (mut name, mut steps) = ("crates-io", 0);
    while let Some(next) = sources
        .get(name)
        .and_then(|source| source.get("replace-with")?.as_str())
    {
        (name, steps) = (next, steps + 1);
        if steps > sources.len() {
            return Vec::new();
        }
    }
    let registry = || sources.get(name)?.get("registry")?.as_str();
    // A source may also be one of the `registries`.
    let index = || config.get("registries")?.get(name)?.get("index")?.as_str();
    match name {
        "crates-io" => Vec::new(),
        _ => registry().or_else(index).map(hosts).unwrap_or_default(),
    }
}

fn tables<'c>(config: &'c DocumentMut, name: &str) -> impl Iterator<Item = (&'c str, &'c dyn TableLike)> {
    let all = config.get(name).and_then(Item::as_table_like);
    all.into_iter()
        .flat_map(TableLike::iter)
        .filter_map(|(name, item)| Some((name, item.as_table_like()?)))
}

/// The settings in these sections of an INI file, `""` being what comes before any; a value goes on in lines that are indented.
fn ini(text: &str, sections: &[&str]) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    let (mut within, mut open) = (sections.contains(&""), false);
    for line in text.lines() {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
            continue;
        }
        if line.starts_with([' ', '\t']) && open {
            if let Some((_, value)) = found.last_mut() {
                value.push(' ');
                value.push_str(trimmed);
            }
            continue;
        }
        open = false;
        if let Some(section) = trimmed.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            within = sections.contains(&section.trim());
        } else if within && let Some((name, value)) = setting(trimmed) {
            found.push((name, value));
            open = true;
        }
    }
    found
}

/// A name may hold colons (`@scope:registry=…`), so an equals sign parts it from its value where there is one.
fn setting(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once('=').or_else(|| line.split_once(':'))?;
    let value = value.trim().trim_matches(['"', '\'']);
    Some((name.trim().to_lowercase(), value.to_owned()))
}

/// The hosts of URLs with blanks between them; what is none, or names no host on the network, is left out.
fn hosts(urls: &str) -> Vec<HostPattern> {
    urls.split_whitespace().filter_map(host_of).collect()
}

fn host_of(text: &str) -> Option<HostPattern> {
    let url = Url::parse(text.strip_prefix("sparse+").unwrap_or(text)).ok()?;
    if !matches!(url.scheme(), "https" | "http") {
        return None;
    }
    let host = Host::parse(url.host_str()?).ok()?;
    match url.port() {
        Some(port) => HostPattern::parse(&format!("{host}:{port}")).ok(),
        None => HostPattern::parse(&host.to_string()).ok(),
    }
}

#[cfg(test)]
#[path = "defaults_tests.rs"]
mod tests;
