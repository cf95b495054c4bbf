//! `pond run egress` and `pond run reach`: what a run reached, with the command that would have let it through where it was
//! not; and what it can reach.

use std::collections::BTreeSet;

use futures::TryStreamExt;
use serde_json::json;

use super::super::console::Console;
use super::super::exit::{Exit, Fault};
use super::super::table::Table;
use crate::Client;
use crate::api::{EgressDecision, EgressVerdict, Reach};

/// Carries out `pond run egress`.
pub(super) async fn egress(id: &str, client: &Client, console: &mut Console) -> Result<Exit, Fault> {
    let decisions: Vec<EgressDecision> = client.runs().egress(id).try_collect().await?;
    if console.json() {
        console.result(&json!({ "decisions": decisions }))?;
        return Ok(Exit::Ok);
    }
    let mut table = Table::new(&["TIME", "STAGE", "HOST", "PORT", "DECISION", "RULE", "UP", "DOWN"]);
    for decision in &decisions {
        let stage = match &decision.substage {
            Some(area) => format!("{}/{area}", decision.stage),
            None => decision.stage.clone(),
        };
        table.row([
            decision.ts.clone(),
            stage,
            decision.host.clone(),
            decision.port.to_string(),
            decision.decision.to_string(),
            decision.rule.clone().unwrap_or_default(),
            decision.bytes_up.to_string(),
            decision.bytes_down.to_string(),
        ]);
    }
    console.table(&table)?;
    let denied = decisions
        .iter()
        .filter(|decision| decision.decision == EgressVerdict::Denied);
    let ways: BTreeSet<String> = denied.filter_map(allowing).collect();
    if !ways.is_empty() {
        console.line("")?;
        console.line("To allow what was not listed:")?;
        for way in ways {
            console.line(&format!("  {way}"))?;
        }
    }
    Ok(Exit::Ok)
}

/// The command that allows what no rule allowed. What a rule denies, and what is no plain host, has none.
fn allowing(decision: &EgressDecision) -> Option<String> {
    let plain = |host: &str| {
        let name = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-:[]".contains(&b);
        !host.is_empty() && !host.starts_with('-') && host.bytes().all(name)
    };
    if decision.rule.is_some() || !plain(&decision.host) {
        return None;
    }
    let port = match decision.port {
        80 | 443 => String::new(),
        port => format!(":{port}"),
    };
    Some(format!("pond egress set {}{port}", decision.host))
}

/// Carries out `pond run reach`.
pub(super) async fn reach(id: &str, client: &Client, console: &mut Console) -> Result<Exit, Fault> {
    let reach = client.runs().reach(id).await?;
    if console.json() {
        console.result(&reach)?;
        return Ok(Exit::Ok);
    }
    show(&reach, console)?;
    Ok(Exit::Ok)
}

fn show(reach: &Reach, console: &mut Console) -> std::io::Result<()> {
    let mut table = Table::new(&["HOST", "", "FROM"]);
    let allowed = reach.hosts.iter().map(|host| (host, "allowed"));
    let denied = reach.denied.iter().map(|host| (host, "denied"));
    for (host, word) in allowed.chain(denied) {
        table.row([host.rule.as_str(), word, host.from.as_str()]);
    }
    console.table(&table)?;
    console.line("")?;
    let mut table = Table::new(&["SECRET", "GOES TO", "IN"]);
    for secret in &reach.secrets {
        table.row([secret.name.clone(), secret.hosts.join(", "), secret.places.join(", ")]);
    }
    console.table(&table)?;
    if !reach.remote_features.is_empty() {
        console.line("")?;
        console.line(&format!(
            "The model provider itself may: {}",
            reach.remote_features.join(", ")
        ))?;
    }
    Ok(())
}
