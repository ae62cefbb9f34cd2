//! The agent's socket: for this user alone, one request a connection, so many at a time.

use super::http::{self, Answer, Request};
use crate::failure::{self, Failure};
use crate::temporary;
use std::fs::{self, Permissions};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{io, thread};

/// How many requests are answered at a time; more wait in the socket's line.
const AT_ONCE: usize = 64;
/// How long a client may take to take its answer, and one step of a request's arrival.
pub const WRITE: Duration = Duration::from_secs(5);
const READ: Duration = Duration::from_millis(500);
/// Where a socket is made: the folder's name, with a number behind, and the socket's in it.
const FOLDER: &str = ".tkm-";
const HIDDEN: &str = "s";

/// A socket that is answered on. Dropping it removes it, unless another agent has put its own there.
pub struct Socket {
    path: PathBuf,
    inode: u64,
    places: Arc<Places>,
}

/// Counts the requests that are being answered.
#[derive(Default)]
struct Places {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    taken: usize,
    begun: bool,
    closed: bool,
}

/// A place that is taken; given back by whatever ends the request.
struct Place(Arc<Places>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.change(|state| state.taken -= 1);
    }
}

impl Places {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    fn wait_while(&self, condition: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        let waited = self.changed.wait_while(self.lock(), |state| condition(state));
        waited.unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a free place; none when the socket is closed.
    fn take(self: &Arc<Places>) -> Option<Place> {
        let mut state = self.wait_while(|state| state.taken >= AT_ONCE && !state.closed);
        if state.closed {
            return None;
        }
        state.taken += 1;
        Some(Place(self.clone()))
    }
}

impl Socket {
    /// Makes the socket. Who asks waits until it is told to [`begin`](Socket::begin).
    pub fn open(path: &Path, answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Result<Socket, Failure> {
        let (listener, inode) = bind(path)?;
        let places = Arc::new(Places::default());
        // From here on the file is removed if something fails.
        let socket = Socket { path: path.to_owned(), inode, places: places.clone() };
        let answer = Arc::new(answer);
        let serve = move || serve(&listener, &places, &answer);
        thread::Builder::new().name("tkm socket".into()).spawn(serve).map_err(|error| unusable(path, &error))?;
        Ok(socket)
    }

    /// Answers from now on.
    pub fn begin(&self) {
        self.places.change(|state| state.begun = true);
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns whether the path still leads to it.
    pub fn is_there(&self) -> bool {
        fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode)
    }

    /// Takes no more requests.
    pub fn close(&self) {
        self.places.change(|state| state.closed = true);
        if self.is_there() {
            // Wakes the thread, which sees that it is over.
            let _ = UnixStream::connect(&self.path);
            let _ = fs::remove_file(&self.path);
        }
    }

    /// Waits for the answers that are under way, as long as a client may take to take one.
    pub fn finish(&self) {
        let state = self.places.lock();
        let _ = self.places.changed.wait_timeout_while(state, WRITE, |state| state.taken > 0);
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.close();
    }
}

fn serve<A: Fn(&Request) -> Answer + Send + Sync + 'static>(
    listener: &UnixListener,
    places: &Arc<Places>,
    answer: &Arc<A>,
) {
    if places.wait_while(|state| !state.begun && !state.closed).closed {
        return;
    }
    loop {
        let stream = listener.accept();
        let Some(place) = places.take() else { return };
        let Ok((stream, _)) = stream else {
            // No descriptor is left, most likely; it does not help to ask at once.
            drop(place);
            thread::sleep(READ);
            continue;
        };
        let answer = answer.clone();
        let serve = move || {
            let _place = place;
            serve_one(stream, &*answer);
        };
        // No thread is left: the client is hung up on, and its place is free again.
        let _ = thread::Builder::new().name("tkm request".into()).spawn(serve);
    }
}

fn serve_one(mut stream: UnixStream, answer: &dyn Fn(&Request) -> Answer) {
    let limited = stream.set_read_timeout(Some(READ)).and_then(|()| stream.set_write_timeout(Some(WRITE)));
    if limited.is_err() {
        return;
    }
    let answer = match http::read(&mut stream) {
        Ok(request) => answer(&request),
        Err(status) => Answer::new(status, "text/plain", "the request cannot be understood\n".into()),
    };
    // A client that is gone misses nothing.
    let _ = answer.write(&mut stream);
}

/// Binds the path: nothing stands there before the socket is this user's alone, and nothing but a socket is replaced.
fn bind(path: &Path) -> Result<(UnixListener, u64), Failure> {
    let wrong = |what: &str| Err(Failure::new(failure::CONFIG, format!("{what} {}", path.display())));
    if fs::symlink_metadata(path).is_ok_and(|found| !found.file_type().is_socket()) {
        return wrong("name another path for the socket, or remove what is no socket there:");
    }
    if UnixStream::connect(path).is_ok() {
        return wrong("give each agent its own socket; an agent answers on");
    }
    hidden(path).map_err(|error| unusable(path, &error))
}

fn hidden(path: &Path) -> io::Result<(UnixListener, u64)> {
    let parent = temporary::folder_of(path);
    for left in temporary::abandoned(parent, FOLDER) {
        drop(Folder(left));
    }
    let folder = Folder(temporary::hidden_folder(parent, FOLDER)?);
    let hidden = folder.0.join(HIDDEN);
    let listener = UnixListener::bind(&hidden)?;
    fs::set_permissions(&hidden, Permissions::from_mode(0o600))?;
    let inode = fs::metadata(&hidden)?.ino();
    fs::rename(&hidden, path)?;
    Ok((listener, inode))
}

fn unusable(path: &Path, error: &io::Error) -> Failure {
    Failure::io(format!("the socket {} cannot be made", path.display()), error)
}

/// Where a socket gets its permissions. Dropping it removes it.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.0.join(HIDDEN)); // it has moved, if all went well
        let _ = fs::remove_dir(&self.0); // if it cannot be removed, the next agent does that
    }
}

#[cfg(test)]
mod tests {
    use crate::agent::http::{Answer, Request};
    use crate::agent::socket::{AT_ONCE, Socket};
    use std::fs;
    use std::io::{Read, Write};
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    use std::os::unix::net::UnixStream;
    use std::path::Path;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;
    use std::time::Duration;

    fn ask(path: &Path, target: &str) -> String {
        let mut stream = UnixStream::connect(path).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a limit");
        write!(stream, "GET {target} HTTP/1.1\r\n\r\n").expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("text");
        answer
    }

    fn answer(request: &Request) -> Answer {
        assert_ne!(request.path, ["panic"]);
        Answer::new(200, "text/plain", "ok".into())
    }

    #[test]
    fn a_socket_is_never_there_for_other_users() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, over) = (folder.path().join("sock"), AtomicBool::new(false));
        let seen = thread::scope(|scope| {
            let look = || {
                let (mut wide, mut sockets) = (0, 0);
                while !over.load(Ordering::SeqCst) {
                    let entries = fs::read_dir(folder.path()).expect("a folder").flatten();
                    let found = entries.filter_map(|entry| fs::symlink_metadata(entry.path()).ok());
                    for found in found.filter(|found| found.file_type().is_socket()) {
                        sockets += 1;
                        wide += usize::from(found.mode() & 0o777 != 0o600);
                    }
                }
                (wide, sockets)
            };
            let looks = scope.spawn(look);
            (0..2000).for_each(|_| drop(Socket::open(&path, answer).expect("a socket")));
            over.store(true, Ordering::SeqCst);
            looks.join().expect("no panic")
        });
        assert_eq!(seen.0, 0, "of {} looks", seen.1);
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0, "nothing is left");
    }

    #[test]
    fn what_is_no_socket_is_not_replaced_and_no_neighbour_is_touched() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, neighbour) = (folder.path().join("agent.sock"), folder.path().join("agent.new"));
        fs::write(&path, "mine").expect("a file");
        fs::write(&neighbour, "mine too").expect("a file");
        let failure = Socket::open(&path, answer).err().expect("a failure");
        assert_eq!(failure.exit, crate::failure::CONFIG);
        assert!(failure.message.starts_with("name another path for the socket"), "{}", failure.message);
        assert_eq!(fs::read(&path).expect("a file"), b"mine");
        fs::remove_file(&path).expect("a file");
        drop(Socket::open(&path, answer).expect("a socket"));
        assert_eq!(fs::read(&neighbour).expect("a file"), b"mine too");
    }

    #[test]
    fn answers_that_panic_take_no_places() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("sock");
        let socket = Socket::open(&path, answer).expect("a socket");
        socket.begin();
        for _ in 0..=AT_ONCE {
            assert_eq!(ask(&path, "/panic"), "");
        }
        assert!(ask(&path, "/").starts_with("HTTP/1.1 200 "));
    }
}
