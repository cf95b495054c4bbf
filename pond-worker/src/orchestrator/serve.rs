//! A running orchestrator: from its state folder to a listener that answers, and to its end.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use pond_core::clock::{Clock, SystemClock, Timestamp};
use pond_core::entropy::{Entropy, SystemEntropy};
use pond_core::secret::Secret;
use pond_core::secret_file;
use pond_sdk::api;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tower::ServiceExt;

use super::address::TrustedProxies;
use super::handle::{Handle, HandleError};
use super::hub::Hub;
use super::state_dir::{StateDir, StateError};
use super::tokens::Tokens;
use super::{beats, routes, upstream};
use crate::link::Skew;
use crate::link::peer::{Peer, PeerError, Tls};
use crate::net::{DialerSettings, SetupError};

/// Connections at once; more wait to be accepted. Each worker has one, and a second one while it works.
const MAX_CONNECTIONS: usize = 32_768;
/// Until the head of a request is there, also the first and the next one of a connection.
const HEAD: Duration = Duration::from_secs(75);
/// Heartbeats that wait to be sent.
const WAITING_BEATS: usize = 4096;
/// How long calls under way may take after the orchestrator was told to stop.
const DRAIN: Duration = Duration::from_secs(15);
const WITHIN: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_secs(1);

/// Settings of an orchestrator.
#[derive(Debug, Clone)]
pub struct OrchestratorSettings {
    /// Its state folder, with the handle of its pairing.
    pub state_dir: PathBuf,
    /// Where it listens.
    pub bind: SocketAddr,
    /// What its status page asks for; made once and kept in the state folder when it is not given.
    pub secret: Option<Secret>,
    /// Proxies whose word on a client's address counts.
    pub proxies: TrustedProxies,
    /// Whether the engine may be reached without TLS, where it is not on this host.
    pub tls: Tls,
    /// Resolver and certificates.
    pub network: DialerSettings,
}

/// Why an orchestrator does not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The state folder.
    #[error(transparent)]
    State(#[from] StateError),
    /// The pairing.
    #[error(transparent)]
    Handle(#[from] HandleError),
    /// A file of the state folder.
    #[error("{} cannot be used: {kind}", .0.display(), kind = .1.kind())]
    File(PathBuf, #[source] io::Error),
    /// The network.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The listener.
    #[error("cannot listen on {0}: {kind}", kind = .1.kind())]
    Listen(SocketAddr, #[source] io::Error),
    /// The engine does not take its token.
    #[error("the engine refuses this orchestrator's token: it was revoked; pair anew")]
    ShutOut,
}

/// An orchestrator that listens, and answers nobody yet.
pub struct Orchestrator {
    /// Where it listens.
    pub addr: SocketAddr,
    hub: Arc<Hub>,
    beats: mpsc::Receiver<beats::Beat>,
    listener: TcpListener,
    _state: StateDir,
}

impl Orchestrator {
    /// Takes the state folder, finds the engine's clock, and listens.
    ///
    /// # Errors
    /// [`ServeError`].
    pub async fn start(settings: OrchestratorSettings) -> Result<Self, ServeError> {
        let OrchestratorSettings {
            state_dir,
            bind,
            secret,
            proxies,
            tls,
            network,
        } = settings;
        let handle = Handle::read(&state_dir, tls)?;
        let state = StateDir::open(&state_dir)?;
        let (clock, entropy): (Arc<dyn Clock>, Arc<dyn Entropy>) = (Arc::new(SystemClock), Arc::new(SystemEntropy));
        let secret = match secret {
            Some(secret) => secret,
            None => pool_secret(&state, &*entropy)?,
        };
        let path = state.file("worker-tokens");
        let tokens = Tokens::open(path.clone()).map_err(|error| ServeError::File(path, error))?;
        let listening = |error| ServeError::Listen(bind, error);
        let listener = TcpListener::bind(bind).await.map_err(listening)?;
        let addr = listener.local_addr().map_err(listening)?;
        if handle.engine.is_plain_afar() {
            tracing::warn!("the engine is reached without TLS: this orchestrator's token travels in clear");
        }
        let engine = Peer::new(&handle.engine, &network)?.with_token(&handle.token);
        let skew = greet(&engine, &*clock).await?;
        let (sender, beats) = mpsc::channel(WAITING_BEATS);
        let hub = Arc::new(Hub {
            id: handle.id,
            engine,
            clock,
            entropy,
            secret,
            proxies,
            tokens,
            beats: sender,
            skew,
            changed: Default::default(),
            left: Default::default(),
            stop: CancellationToken::new(),
            shut_out: CancellationToken::new(),
            roster: Default::default(),
            tries: Default::default(),
        });
        Ok(Self {
            addr,
            hub,
            beats,
            listener,
            _state: state,
        })
    }

    /// Answers until `stop` completes, then drains: held polls end at once, calls under way go on, and jobs that no worker
    /// has got go back to the engine.
    ///
    /// # Errors
    /// [`ServeError::ShutOut`] when the engine refuses the orchestrator's token.
    pub async fn run(self, stop: impl Future<Output = ()> + Send) -> Result<(), ServeError> {
        let Self {
            hub, beats, listener, ..
        } = self;
        let turn = Arc::new(Mutex::new(()));
        let beating = AbortOnDropHandle::new(tokio::spawn(beats::send(Arc::clone(&hub), beats)));
        let telling = AbortOnDropHandle::new(tokio::spawn(upstream::tell(Arc::clone(&hub), Arc::clone(&turn))));
        let working = AbortOnDropHandle::new(tokio::spawn(upstream::work(Arc::clone(&hub), turn)));
        let sweeping = AbortOnDropHandle::new(tokio::spawn(upstream::sweep(Arc::clone(&hub))));
        let mut connections = JoinSet::new();
        let shut_out = tokio::select! {
            biased;
            () = stop => false,
            () = hub.shut_out.cancelled() => true,
            () = accept(&listener, &hub, &mut connections) => false,
        };
        drop(listener);
        hub.stop.cancel();
        if !shut_out {
            // Both answers are read before what they brought is given back.
            upstream::supersede(&hub).await;
            let _ = tokio::time::timeout(DRAIN, async { (working.await, telling.await) }).await;
            give_back(&hub).await;
        }
        let drained = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN, drained).await.is_err() {
            tracing::warn!("some calls were still under way");
        }
        drop((beating, sweeping));
        match shut_out {
            true => Err(ServeError::ShutOut),
            false => Ok(()),
        }
    }
}

fn pool_secret(state: &StateDir, entropy: &dyn Entropy) -> Result<Secret, ServeError> {
    let path = state.file("pool-secret");
    let kept = secret_file::keep(&path, || Secret::new(hex::encode(entropy.draw::<32>())));
    let (secret, made) = kept.map_err(|error| ServeError::File(path.clone(), error))?;
    if made {
        tracing::info!(path = %path.display(), "made a pool secret, which the status page asks for");
    }
    Ok(secret)
}

/// Finds the engine and its clock. An engine that does not answer yet is waited for: workers may well come before it.
async fn greet(engine: &Peer, clock: &dyn Clock) -> Result<Skew, ServeError> {
    loop {
        let asked = clock.now();
        let answer: Result<api::OrchWhoami, PeerError> = engine.get("/v1/orch/whoami", WITHIN).await;
        match answer {
            Ok(whoami) => {
                let told = Timestamp::parse(&whoami.server_time).unwrap_or(asked);
                let skew = Skew::measured(asked, told, clock.now());
                if !skew.size().is_zero() {
                    tracing::warn!(
                        seconds = skew.size().as_secs(),
                        "the clocks of this host and of the engine differ"
                    );
                }
                return Ok(skew);
            }
            Err(error) if error.is_shut_out() => return Err(ServeError::ShutOut),
            Err(error) => {
                tracing::warn!(error = %error.told(), "the engine does not answer yet");
                clock.sleep(PAUSE).await;
            }
        }
    }
}

/// Gives jobs back that no worker has got.
async fn give_back(hub: &Hub) {
    let parcels = hub.roster().unhanded();
    let back = parcels.iter().filter_map(|parcel| upstream::claim(&parcel.json));
    futures::future::join_all(back.map(|(job, token)| async move {
        upstream::give_back(&hub.engine, &job, &token).await;
    }))
    .await;
}

async fn accept(listener: &TcpListener, hub: &Arc<Hub>, connections: &mut JoinSet<()>) {
    let router = routes::router(Arc::clone(hub));
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, from)) => {
                connections.spawn(answer(stream, from, router.clone(), hub.stop.clone(), place));
            }
            Err(error) => {
                // Out of descriptors, mostly: without a pause this would spin.
                tracing::error!(%error, "no connection can be accepted");
                hub.clock.sleep(PAUSE).await;
            }
        }
    }
}

/// Answers the requests of one connection.
async fn answer(
    stream: TcpStream,
    from: SocketAddr,
    router: Router,
    stop: CancellationToken,
    _place: OwnedSemaphorePermit,
) {
    // An answer is small and waited for.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(from));
        router.clone().oneshot(request)
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
    // An error is the client's, and there is nobody to be told.
    tokio::select! {
        _ = connection.as_mut() => {}
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}
