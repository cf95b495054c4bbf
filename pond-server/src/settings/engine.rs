//! What the engine is held to.

use pond_core::EngineSettings;
use pond_core::outbound::AllowPrivate;
use pond_core::runs::Retention;
use pond_core::sources::Caps;
use pond_core::usage::{Pico, Price};

use super::reader::Reader;
use super::store::StoreSettings;

const DAY: u64 = 86_400;
const RETENTION_DAYS: u64 = 90;
/// Below it a heartbeat that is a little late would lose its lease.
const MIN_LEASE: u64 = 6;

pub(super) fn read(reader: &mut Reader<'_>, store: &StoreSettings) -> EngineSettings {
    let default = EngineSettings::default();
    let lease = reader.seconds("POND_LEASE_SEC", default.lease, MIN_LEASE..=3600);
    let heartbeat = reader.seconds("POND_HEARTBEAT_SEC", lease / 3, 1..=3600);
    if heartbeat > lease / 3 {
        reader.bad("POND_HEARTBEAT_SEC", "expected at most a third of POND_LEASE_SEC");
    }
    let outbound = list(reader);
    let parallel = reader.number("POND_RUN_MAX_PARALLEL", default.run_max_parallel as u64, 1..=1000);
    let project_parallel = reader.number(
        "POND_PROJECT_MAX_PARALLEL",
        default.project_max_parallel.into(),
        1..=100_000,
    );
    let queued = reader.number(
        "POND_PROJECT_MAX_QUEUED",
        default.project_max_queued.into(),
        1..=1_000_000,
    );
    let retention = reader.number("POND_RETENTION_DAYS", RETENTION_DAYS, 1..=36_500);
    let attempts = reader.number("POND_MAX_ATTEMPTS", default.max_attempts.into(), 1..=100);
    EngineSettings {
        takeover: default.takeover,
        run_max_parallel: usize::try_from(parallel).unwrap_or(usize::MAX),
        project_max_parallel: u32::try_from(project_parallel).unwrap_or(u32::MAX),
        project_max_queued: u32::try_from(queued).unwrap_or(u32::MAX),
        stage_timeout: reader.seconds("POND_STAGE_TIMEOUT_SEC", default.stage_timeout, 1..=30 * DAY),
        no_worker_grace: reader.seconds(
            "POND_DISPATCH_NO_WORKER_GRACE_SEC",
            default.no_worker_grace,
            1..=30 * DAY,
        ),
        cancel_grace: reader.seconds("POND_CANCEL_GRACE_SEC", default.cancel_grace, 1..=3600),
        lease,
        max_attempts: u32::try_from(attempts).unwrap_or(u32::MAX),
        worker_offline: reader.seconds("POND_WORKER_OFFLINE_SEC", default.worker_offline, 1..=DAY),
        log_cap: reader.bytes("POND_LOG_MAX_BYTES", default.log_cap),
        retention: Retention::days(u32::try_from(retention).unwrap_or(u32::MAX)),
        artifact_cap: reader.bytes("POND_ARTIFACT_MAX_BYTES", default.artifact_cap),
        require_sandbox: reader
            .boolean("POND_REQUIRE_SANDBOX")
            .unwrap_or(default.require_sandbox),
        allow_shell: reader.boolean("POND_ALLOW_SHELL").unwrap_or(default.allow_shell),
        default_budget_usd: usd(reader, "POND_DEFAULT_BUDGET_USD"),
        default_harness: name(reader, "POND_DEFAULT_HARNESS"),
        default_model: name(reader, "POND_DEFAULT_MODEL"),
        outbound,
        source_caps: caps(reader),
        work_dir: Some(store.state_dir.join("checkouts")),
        audit_head_file: reader.path("POND_AUDIT_HEAD_FILE"),
    }
}

fn list(reader: &mut Reader<'_>) -> AllowPrivate {
    let Some(text) = reader.text("POND_OUTBOUND_ALLOW_PRIVATE") else {
        return AllowPrivate::default();
    };
    AllowPrivate::parse(text).unwrap_or_else(|bad| {
        reader.bad("POND_OUTBOUND_ALLOW_PRIVATE", bad.to_string());
        AllowPrivate::default()
    })
}

fn name(reader: &mut Reader<'_>, variable: &str) -> Option<String> {
    let sane = |text: &str| {
        let fits = text.len() <= 64 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        fits.then(|| text.to_owned())
    };
    reader.parsed(variable, sane, "a name of at most 64 of A-Z a-z 0-9 . _ -")
}

/// Dollars above 0 with at most six decimal places.
fn usd(reader: &mut Reader<'_>, variable: &str) -> Option<Pico> {
    let amount = |text: &str| {
        let price = Price::parse(text).ok().filter(|price| price.0 > 0)?;
        // Micro-USD there, pico-USD here.
        Some(Pico(price.0.saturating_mul(1_000_000)))
    };
    reader.parsed(
        variable,
        amount,
        "dollars above 0 and up to 100000, with at most 6 decimal places",
    )
}

fn caps(reader: &mut Reader<'_>) -> Caps {
    let default = Caps::default();
    Caps {
        git: reader.bytes("POND_GIT_MAX_BYTES", default.git),
        tarball: reader.bytes("POND_TARBALL_MAX_BYTES", default.tarball),
        s3: reader.bytes("POND_S3_MAX_BYTES", default.s3),
        folder: reader.bytes("POND_FOLDER_MAX_BYTES", default.folder),
        bundle: reader.bytes("POND_BUNDLE_MAX_BYTES", default.bundle),
        files: reader.number("POND_SOURCE_MAX_FILES", default.files, 1..=10_000_000),
    }
}
