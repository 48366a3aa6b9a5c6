//! Listening: addresses, connections, and the end.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use axum::Router;
use tokio::runtime::{self, Runtime};
use tokio::sync::watch;

use super::app::App;
use super::captions::Captions;
use super::config::ServiceConfig;
use super::connection;
use super::router::router;

/// Threads that answer requests; decoding and captioning have their own.
const THREADS: usize = 2;
/// How long to wait where the machine has no room for a connection.
const NO_ROOM: Duration = Duration::from_millis(50);
/// How long answers may take once nobody captions any more.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

/// Answers requests.
pub struct Service {
    app: Arc<App>,
    router: Router,
}

/// A service that has its address, and answers once it [runs](Listening::run).
pub struct Listening {
    service: Service,
    runtime: Runtime,
    listeners: Vec<TcpListener>,
    addresses: Vec<SocketAddr>,
    stop: Stop,
}

/// Ends a service, from any thread.
#[derive(Clone, Debug)]
pub struct Stop {
    stop: watch::Sender<bool>,
}

impl Stop {
    /// Has the service take no more requests, answer those it has, and end.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }
}

impl Service {
    /// Starts the thread that captions.
    ///
    /// # Errors
    /// When it cannot be started, or an allowed origin is none.
    pub fn new(captions: impl Captions, config: ServiceConfig) -> Result<Self> {
        let app = Arc::new(App::new(Arc::new(captions), config)?);
        let router = router(app.clone())?;
        Ok(Self { app, router })
    }

    /// What answers requests, to be put behind another server. Deadlines of heads and connections
    /// are that server's then.
    pub fn router(&self) -> Router {
        self.router.clone()
    }

    /// Listens from now on, on all addresses of a host, which is an address or a name; port 0 is
    /// any that is free.
    ///
    /// # Errors
    /// When the host is unknown, or an address taken or not this machine's; the message names it.
    pub fn bind(self, host: &str, port: u16) -> Result<Listening> {
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("serve")
            .enable_io()
            .enable_time()
            .build()
            .context("cannot start threads")?;
        let listeners = listen(host, port)?;
        let addresses = listeners.iter().map(TcpListener::local_addr);
        let addresses = addresses.collect::<io::Result<Vec<_>>>()?;
        let (stop, _) = watch::channel(false);
        Ok(Listening {
            service: self,
            runtime,
            listeners,
            addresses,
            stop: Stop { stop },
        })
    }
}

/// A socket for each address of a host that is this machine's.
fn listen(host: &str, port: u16) -> Result<Vec<TcpListener>> {
    // As in addresses of pages.
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let host = bare.unwrap_or(host);
    let addresses = (host, port).to_socket_addrs();
    let mut addresses: Vec<SocketAddr> = addresses
        .with_context(|| format!("{host}: no address of this host is known: give another --host"))?
        .collect();
    addresses.sort_by_key(SocketAddr::is_ipv6);
    addresses.dedup();
    let (mut listeners, mut failed) = (Vec::<TcpListener>::new(), None);
    for mut address in addresses {
        if let Some(first) = listeners.first() {
            // The free port that was found is everybody's.
            address.set_port(first.local_addr()?.port());
        }
        let error = match TcpListener::bind(address) {
            Ok(listener) => {
                listener.set_nonblocking(true)?;
                listeners.push(listener);
                continue;
            }
            Err(error) => error,
        };
        // A name may have addresses of a kind that this machine has not.
        let is_absent = matches!(
            error.kind(),
            io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported
        );
        failed = Some((address, error));
        if !is_absent {
            listeners.clear();
            break;
        }
    }
    match failed {
        Some((address, error)) if listeners.is_empty() => Err(error)
            .with_context(|| format!("cannot listen on {address}: choose another host or port")),
        _ if listeners.is_empty() => bail!("{host}: the host has no address: give another --host"),
        _ => Ok(listeners),
    }
}

impl Listening {
    /// Where the service listens.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// What ends the service.
    pub fn stopper(&self) -> Stop {
        self.stop.clone()
    }

    /// Answers requests until it is stopped.
    ///
    /// # Errors
    /// When the thread that captions has ended, or a socket fails.
    pub fn run(self) -> Result<()> {
        let Self {
            service,
            runtime,
            listeners,
            stop,
            ..
        } = self;
        let app = service.app.clone();
        let outcome = runtime.block_on(serve(service, listeners, stop));
        // What is left are images whose clients are gone.
        runtime.shutdown_background();
        drop(app);
        outcome
    }
}

async fn serve(service: Service, listeners: Vec<TcpListener>, stop: Stop) -> Result<()> {
    let Service { app, router } = service;
    let mut accepting = tokio::task::JoinSet::new();
    for listener in listeners {
        let listener = tokio::net::TcpListener::from_std(listener).context("a socket failed")?;
        accepting.spawn(accept(
            listener,
            app.clone(),
            router.clone(),
            stop.stop.subscribe(),
        ));
    }
    let mut stopped = stop.stop.subscribe();
    let has_ended = tokio::select! {
        _ = stopped.wait_for(|stop| *stop) => false,
        () = app.queue.ended() => true,
    };
    accepting.shutdown().await;
    stop.stop();
    let all_answered = app.connections.all_closed();
    if has_ended {
        // Whoever waits is told that there will be no captions.
        let _ = tokio::time::timeout(LAST_ANSWERS, all_answered).await;
        bail!("the thread that captions has ended: start the service again");
    }
    tokio::select! {
        () = all_answered => Ok(()),
        () = app.queue.ended() => bail!("the thread that captions has ended before all was answered"),
    }
}

/// Takes connections for ever.
async fn accept(
    listener: tokio::net::TcpListener,
    app: Arc<App>,
    router: Router,
    stop: watch::Receiver<bool>,
) {
    loop {
        match listener.accept().await {
            Ok((stream, address)) => {
                // Answers are written whole, so that waiting for more bytes only costs time.
                let _ = stream.set_nodelay(true);
                let admitted = app.connections.admit().await;
                tokio::spawn(connection::serve(
                    stream,
                    address,
                    admitted,
                    app.clone(),
                    router.clone(),
                    stop.clone(),
                ));
            }
            Err(error) if is_of_connection(&error) => {}
            // The machine has no room for more, files for example.
            Err(_) => {
                app.connections.evict();
                tokio::time::sleep(NO_ROOM).await;
            }
        }
    }
}

/// Whether only the connection that was to be taken is lost.
fn is_of_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
}
