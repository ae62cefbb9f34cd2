//! The agent's socket: for this user alone, one request a connection, so many at a time.

use super::http::{self, Answer, Request};
use crate::failure::Failure;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// How many requests are answered at a time; more wait in the socket's line.
const AT_ONCE: usize = 64;
/// How long a client may take to take its answer, and one step of a request's arrival.
const WRITE: Duration = Duration::from_secs(5);
const READ: Duration = Duration::from_millis(500);
/// What the socket is called until its permissions are right.
const NEW: &str = "new";

/// A socket that is answered on. Dropping it removes it, unless another agent has put its own there.
pub struct Socket {
    path: PathBuf,
    inode: u64,
    places: Arc<Places>,
}

/// Counts the requests that are being answered.
#[derive(Default)]
struct Places {
    taken: Mutex<(usize, bool)>,
    changed: Condvar,
}

impl Places {
    fn lock(&self) -> MutexGuard<'_, (usize, bool)> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a free place; false when the socket is closed.
    fn take(&self) -> bool {
        let full = |(taken, closed): &mut (usize, bool)| *taken >= AT_ONCE && !*closed;
        let mut state = self.changed.wait_while(self.lock(), full).unwrap_or_else(PoisonError::into_inner);
        state.0 += 1;
        !state.1
    }

    fn give_back(&self) {
        self.lock().0 -= 1;
        self.changed.notify_all();
    }
}

impl Socket {
    /// Answers on this path from now on.
    pub fn open(path: &Path, answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Result<Socket, Failure> {
        let unusable = |error: io::Error| Failure::io(format!("the socket {} cannot be made", path.display()), &error);
        if UnixStream::connect(path).is_ok() {
            let what = format!("an agent answers on {} already; give each its own socket", path.display());
            return Err(Failure::new(crate::failure::CONFIG, what));
        }
        // Nobody else can connect before the permissions are right, and no request meets a socket that is not answered.
        let new = path.with_extension(NEW);
        let _ = fs::remove_file(&new); // of an agent that was killed here
        let listener = UnixListener::bind(&new).map_err(unusable)?;
        fs::set_permissions(&new, Permissions::from_mode(0o600)).map_err(unusable)?;
        let inode = fs::metadata(&new).map_err(unusable)?.ino();
        fs::rename(&new, path).map_err(unusable)?;
        let places = Arc::new(Places::default());
        let (answer, of_thread) = (Arc::new(answer), places.clone());
        let serve = move || serve(&listener, &of_thread, &answer);
        thread::Builder::new().name("tkm socket".into()).spawn(serve).map_err(unusable)?;
        Ok(Socket { path: path.to_owned(), inode, places })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.places.lock().1 = true;
        self.places.changed.notify_all();
        if fs::metadata(&self.path).is_ok_and(|found| found.ino() == self.inode) {
            // Wakes the thread, which sees that it is over.
            let _ = UnixStream::connect(&self.path);
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn serve<A: Fn(&Request) -> Answer + Send + Sync + 'static>(
    listener: &UnixListener,
    places: &Arc<Places>,
    answer: &Arc<A>,
) {
    loop {
        let stream = listener.accept();
        if !places.take() {
            return;
        }
        let Ok((stream, _)) = stream else {
            // No descriptor is left, most likely; it does not help to ask at once.
            places.give_back();
            thread::sleep(READ);
            continue;
        };
        let (of_thread, answer) = (places.clone(), answer.clone());
        let serve = move || {
            serve_one(stream, &*answer);
            of_thread.give_back();
        };
        if thread::Builder::new().name("tkm request".into()).spawn(serve).is_err() {
            places.give_back();
        }
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
