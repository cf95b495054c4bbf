//! What the two programs share. Only they call it: logs and the TLS provider are the process's.

pub mod doctor;

use std::collections::BTreeMap;
use std::future::Future;
use std::io::{self, IsTerminal, Write};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::launch::{LaunchError, Server};
use crate::settings::{Environment, Role, Settings};

/// Started, served and drained.
pub const OK: u8 = 0;
/// Something failed on the way.
pub const FAILED: u8 = 1;
/// A setting is wrong.
pub const USAGE: u8 = 2;

/// The environment of this process. Names and values that are no text are left out: no setting of ours is one.
pub fn environment() -> Environment {
    let text =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    text.collect::<BTreeMap<_, _>>()
}

/// Installs what a process has once: the TLS provider, and where logs go (`POND_LOG` filters them). JSON when standard error
/// is no terminal.
pub fn install(environment: &Environment, default_filter: &str) {
    // An error says that one is there already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let filter = environment
        .get("POND_LOG")
        .and_then(|text| EnvFilter::try_new(text).ok());
    let filter = filter.unwrap_or_else(|| EnvFilter::new(default_filter));
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    if io::stderr().is_terminal() {
        logs.init();
    } else {
        logs.json().flatten_event(true).init();
    }
}

/// Serves until the process is told to stop. Gives the exit code.
pub async fn serve(environment: &Environment, role: Role, allow_unconfined: bool) -> u8 {
    let mut settings = match Settings::read(environment, role) {
        Ok(settings) => settings,
        Err(bad) => {
            for setting in bad {
                eprintln!("error: {setting}");
            }
            return USAGE;
        }
    };
    if allow_unconfined {
        settings.allow_unconfined();
    }
    for warning in &settings.warnings {
        tracing::warn!(setting = %warning, "a setting is odd");
    }
    // From before anyone knows of the server: told to stop while it starts, it drains too.
    let stop = told_to_stop();
    let server = match Server::start(settings).await {
        Ok(server) => server,
        Err(error) => return refused(&error),
    };
    announce(&server);
    match server.run(stop).await {
        Ok(()) => OK,
        Err(error) => {
            eprintln!("error: {error}");
            FAILED
        }
    }
}

/// Says why there is no server.
pub fn refused(error: &LaunchError) -> u8 {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        let more = inner.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = inner.source();
    }
    eprintln!("error: {text}");
    match error {
        LaunchError::Home(_) | LaunchError::RootKey(_) | LaunchError::Listen(..) => USAGE,
        _ => FAILED,
    }
}

/// Tells where the server is and where its token lies; the token itself to a terminal alone.
pub fn announce(server: &Server) {
    let mut out = io::stdout();
    let mut text = format!("Pond is ready at {}\n", server.url());
    if let Some(path) = &server.token_path {
        text.push_str(&format!("service token in {}\n", path.display()));
        if out.is_terminal() {
            text.push_str(&format!("service token: {}\n", server.service_token.expose()));
        }
    }
    // Where nobody listens there is nobody to tell.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Listens for SIGTERM and SIGINT from now on; the future completes at the first of them.
pub fn told_to_stop() -> impl Future<Output = ()> + Send + 'static {
    let (terminate, interrupt) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    async move {
        tokio::select! {
            () = heard(terminate) => {}
            () = heard(interrupt) => {}
        }
        tracing::info!("told to stop");
    }
}

async fn heard(signals: io::Result<Signal>) {
    match signals {
        Ok(mut signals) => {
            signals.recv().await;
        }
        Err(error) => {
            tracing::error!(%error, "signals cannot be heard");
            std::future::pending::<()>().await;
        }
    }
}
