//! The thread beside the workers, and how it is spoken to.

use super::Service;
use super::bundle_watch::watch;
use super::connections::{Connections, Place};
use super::ending::Ending;
use super::http::{HttpAnswer, Reply, reply};
use super::link_log::LinkLog;
use super::loader::{BundleLoad, NotLoaded};
use super::output_log::OutputLog;
use super::systemd::Systemd;
use crate::config::ServiceLimits;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};

/// Longest body of a request: a path.
const MOST_BODY: usize = 1 << 16;
/// Longest that a request may take to come.
const PATIENCE: Duration = Duration::from_secs(3);
/// Longest that a connection may take altogether, but for the time that a bundle takes to be read.
const MOST_TIME: Duration = Duration::from_secs(15);
/// Time to wait for room where the system gives no descriptor.
const NO_ROOM: Duration = Duration::from_millis(20);
/// Time between two looks at signals, bundle and workers.
pub(super) const LOOK: Duration = Duration::from_millis(200);

/// Sockets that are open before privileges are given up. The control socket is removed when they
/// are dropped.
#[derive(Debug, Default)]
pub struct Listeners {
    metrics: Option<TcpListener>,
    control: Option<UnixListener>,
    socket: Option<SocketFile>,
}

/// A socket in the file system, which is removed at the end.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    /// Its device and inode.
    place: (u64, u64),
}

impl SocketFile {
    /// The one that was just bound there.
    fn of(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), place: place_of(path)? })
    }
}

impl Drop for SocketFile {
    /// What another one has put there meanwhile is not this process's to remove.
    fn drop(&mut self) {
        if place_of(&self.path).is_ok_and(|found| found == self.place) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn place_of(path: &Path) -> io::Result<(u64, u64)> {
    let data = std::fs::symlink_metadata(path)?;
    Ok((data.dev(), data.ino()))
}

impl Listeners {
    /// Opens what the configuration names.
    ///
    /// # Errors
    /// When an address is taken, or a socket cannot be made: the key, and what was expected and
    /// found.
    pub fn open(limits: &ServiceLimits) -> Result<Self, (&'static str, String)> {
        let metrics = limits.metrics.map(open_tcp).transpose();
        let control = limits.control.as_deref().map(|path| open_unix(path, limits)).transpose();
        let (metrics, control) = (metrics?, control?);
        let (control, socket) = control.unzip();
        Ok(Self { metrics, control, socket })
    }

    /// The sockets, for the runtime of the calling thread.
    fn doors(self) -> impl Iterator<Item = io::Result<Door>> {
        let metrics = self
            .metrics
            .map(|listener| tokio::net::TcpListener::from_std(listener).map(Door::Metrics));
        let control = self
            .control
            .map(|listener| tokio::net::UnixListener::from_std(listener).map(Door::Control));
        metrics.into_iter().chain(control)
    }

    /// Where metrics are told.
    #[must_use]
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().and_then(|listener| listener.local_addr().ok())
    }
}

fn named(what: impl std::fmt::Display) -> impl FnOnce(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{what}: {error}"))
}

fn open_tcp(address: SocketAddr) -> Result<TcpListener, (&'static str, String)> {
    let listener = TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    listener.map_err(|error| {
        let expected = "expected a free address and port of this machine";
        ("service.metrics", format!("{expected}, found {address}: {error}"))
    })
}

fn open_unix(
    path: &Path,
    limits: &ServiceLimits,
) -> Result<(UnixListener, SocketFile), (&'static str, String)> {
    let refused = |error: io::Error| {
        let expected = "expected a path where a socket can be made";
        ("service.control", format!("{expected}, found {}: {error}", path.display()))
    };
    if UnixStream::connect(path).is_ok() {
        let taken = io::Error::new(io::ErrorKind::AddrInUse, "another process listens there");
        return Err(refused(taken));
    }
    // What a process left behind that is gone.
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|data| {
        use std::os::unix::fs::FileTypeExt;
        data.file_type().is_socket()
    });
    if is_socket {
        std::fs::remove_file(path).map_err(refused)?;
    }
    let listener = UnixListener::bind(path).map_err(refused)?;
    let socket = SocketFile::of(path).map_err(refused)?;
    give_to_group(path, limits)?;
    listener.set_nonblocking(true).map_err(refused)?;
    Ok((listener, socket))
}

/// The number of a group of the system.
#[cfg(target_os = "linux")]
fn group_number(group: &str) -> io::Result<u32> {
    serveflow_io::os::as_user::find_group(group)
}

#[cfg(not(target_os = "linux"))]
fn group_number(_group: &str) -> io::Result<u32> {
    Err(io::Error::other("expected Linux"))
}

/// Lets the group of the configuration use a socket.
fn give_to_group(path: &Path, limits: &ServiceLimits) -> Result<(), (&'static str, String)> {
    // Nobody else may use it until it is the group's.
    let permit = |mode| {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).map_err(|error| {
            ("service.control_mode", format!("expected to set it, found: {error}"))
        })
    };
    permit(limits.control_mode & 0o700)?;
    if let Some(group) = &limits.control_group {
        let number = group_number(group);
        let given = number.and_then(|group| std::os::unix::fs::chown(path, None, Some(group)));
        given.map_err(|error| {
            let expected = "expected a group that the socket can be given to";
            ("service.control_group", format!("{expected}, found `{group}`: {error}"))
        })?;
    }
    permit(limits.control_mode)
}

/// The thread; dropping it ends it.
#[derive(Debug)]
pub struct Control {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    /// Removed when the thread has ended.
    _socket: Option<SocketFile>,
}

impl Control {
    /// Starts it.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(
        service: &Arc<Service>,
        mut listeners: Listeners,
        limits: &ServiceLimits,
        reload: Arc<AtomicBool>,
    ) -> io::Result<Self> {
        let is_over = Arc::new(AtomicBool::new(false));
        let socket = listeners.socket.take();
        let keeper = Keeper {
            service: Arc::clone(service),
            reload,
            wires: LinkLog::default(),
            ending: Ending::new(Duration::from_millis(limits.shutdown_timeout_ms as u64)),
            output_log: OutputLog::default(),
            systemd: Systemd::new(),
            is_over: Arc::clone(&is_over),
        };
        if limits.watch_bundle {
            watch(Arc::clone(service), Arc::clone(&is_over))?;
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new().name("control".to_owned());
        let thread = thread.spawn(move || runtime.block_on(keeper.run(listeners)));
        let thread = thread.map_err(super::no_thread("control"))?;
        Ok(Self { is_over, thread: Some(thread), _socket: socket })
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What the thread looks after.
struct Keeper {
    service: Arc<Service>,
    /// Set by SIGHUP.
    reload: Arc<AtomicBool>,
    wires: LinkLog,
    output_log: OutputLog,
    systemd: Systemd,
    is_over: Arc<AtomicBool>,
    ending: Ending,
}

impl Keeper {
    async fn run(mut self, listeners: Listeners) {
        for door in listeners.doors() {
            match door {
                Ok(door) => {
                    tokio::spawn(door.keep(Arc::clone(&self.service)));
                }
                Err(error) => tracing::error!(%error, "a socket cannot be used"),
            }
        }
        while !self.is_over.load(Ordering::Relaxed) {
            self.look();
            tokio::time::sleep(LOOK).await;
        }
        // What began behind the last look.
        self.service.drift.look();
        self.systemd.stopping();
    }

    fn look(&mut self) {
        self.follow_signal();
        self.wires.look(self.service.interfaces());
        self.output_log.look(self.service.output());
        self.service.drift.look();
        self.systemd.look(&self.service);
        if let Some(undone) = self.ending.look(&self.service) {
            undone.leave();
        }
    }

    /// Reads the bundle anew after SIGHUP, as soon as no other one is being read.
    fn follow_signal(&self) {
        if !self.reload.swap(false, Ordering::Relaxed) {
            return;
        }
        // Whoever asked reads of it in the log.
        match self.service.start_load(BundleLoad::Serve { path: None }) {
            Ok(_) => {}
            Err(NotLoaded::Busy { .. }) => self.reload.store(true, Ordering::Relaxed),
            Err(why) => tracing::error!(%why, "the bundle is not reloaded"),
        }
    }
}

/// Where connections come in.
enum Door {
    /// Whoever comes may look.
    Metrics(tokio::net::TcpListener),
    /// Whoever may open the socket may change things.
    Control(tokio::net::UnixListener),
}

/// Either kind of connection.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

impl Door {
    async fn next(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match self {
            Self::Metrics(listener) => Box::new(listener.accept().await?.0),
            Self::Control(listener) => Box::new(listener.accept().await?.0),
        })
    }

    /// Takes connections and answers them.
    async fn keep(self, service: Arc<Service>) {
        let may_control = matches!(self, Self::Control(_));
        let connections = Connections::default();
        loop {
            let Ok(stream) = self.next().await else {
                // Nothing but a lack of descriptors or memory: the oldest connection gives its own.
                connections.close_oldest();
                tokio::time::sleep(NO_ROOM).await;
                continue;
            };
            let place = connections.enter();
            let number = place.number();
            let task = tokio::spawn(serve(stream, Arc::clone(&service), may_control, place));
            connections.name(number, task.abort_handle());
        }
    }
}

/// Answers the requests of a connection.
async fn serve(stream: Box<dyn Stream>, service: Arc<Service>, may_control: bool, place: Place) {
    let is_reading = AtomicBool::new(false);
    let respond = service_fn(|request: Request<Incoming>| {
        let (service, place, is_reading) = (&service, &place, &is_reading);
        async move {
            Ok::<_, Infallible>(respond(request, service, may_control, place, is_reading).await)
        }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    // A request each: nobody holds a place between two of them.
    http.timer(TokioTimer::new()).header_read_timeout(PATIENCE).keep_alive(false);
    let mut connection = std::pin::pin!(http.serve_connection(TokioIo::new(stream), respond));
    // A client that goes away is no matter.
    while tokio::time::timeout(MOST_TIME, &mut connection).await.is_err() {
        // A bundle takes as long as it takes to be read.
        if !is_reading.load(Ordering::Relaxed) {
            return;
        }
    }
}

async fn respond(
    request: Request<Incoming>,
    service: &Arc<Service>,
    may_control: bool,
    place: &Place,
    is_reading: &AtomicBool,
) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let body = tokio::time::timeout(PATIENCE, Limited::new(body, MOST_BODY).collect()).await;
    let body = body.ok().and_then(Result::ok).map(|body| body.to_bytes());
    let body = body.as_ref().and_then(|body| std::str::from_utf8(body).ok());
    let HttpAnswer { status, kind, body } = match body {
        None => HttpAnswer {
            status: 400,
            kind: "text/plain",
            body: "expected a short text\n".to_owned(),
        },
        Some(body) => {
            match reply(service, may_control, head.method.as_str(), head.uri.path(), body) {
                Reply::Now(answer) => answer,
                Reply::DeferredAnswer(later) => {
                    place.keep();
                    is_reading.store(true, Ordering::Relaxed);
                    let answer = later.answer().await;
                    is_reading.store(false, Ordering::Relaxed);
                    answer
                }
            }
        }
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = hyper::StatusCode::from_u16(status).unwrap_or_default();
    let kind = hyper::header::HeaderValue::from_static(kind);
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, kind);
    response
}

/// Asks a running service by its control socket: the status code and the body.
///
/// # Errors
/// When nobody answers there, or not in HTTP.
pub fn ask(socket: &Path, method: &str, path: &str, body: &str) -> io::Result<(u16, String)> {
    let mut stream = UnixStream::connect(socket).map_err(named(socket.display()))?;
    // Reading a large bundle takes its time.
    stream.set_read_timeout(Some(Duration::from_secs(300)))?;
    let length = body.len();
    // HTTP/1.0: the answer ends with the connection, and comes in one piece.
    write!(stream, "{method} {path} HTTP/1.0\r\nContent-Length: {length}\r\n\r\n{body}")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(named(socket.display()))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let broken = || {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{}: expected an HTTP response", socket.display()),
        )
    };
    Ok((status.ok_or_else(broken)?, body.to_owned()))
}
