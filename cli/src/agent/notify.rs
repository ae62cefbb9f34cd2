//! Tells the service manager how the agent is (sd_notify(3)).

use rustix::time::{ClockId, clock_gettime};
use std::env;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// How long a service manager that does not listen may hold the agent up, each time.
const PATIENCE: Duration = Duration::from_millis(500);

/// The service manager, if there is one.
pub struct Notify {
    socket: Option<(UnixDatagram, SocketAddr)>,
    /// How often it wants to hear that the agent lives.
    pub watchdog: Option<Duration>,
}

impl Notify {
    /// Finds it by the variables that it sets.
    pub fn find() -> Notify {
        let address = env::var_os("NOTIFY_SOCKET").and_then(|path| address(path.as_bytes()));
        let socket = || {
            let socket = UnixDatagram::unbound().ok()?;
            socket.set_write_timeout(Some(PATIENCE)).ok()?;
            Some(socket)
        };
        let socket = address.and_then(|address| Some((socket()?, address)));
        let number = |name: &str| env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
        // The variable may be meant for a process further up.
        let ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|micros| ours && *micros > 0);
        Notify { socket, watchdog: watchdog.map(|micros| Duration::from_micros(micros) / 2) }
    }

    pub fn tell(&self, state: &str) {
        if let Some((socket, address)) = &self.socket
            && let Err(error) = socket.send_to_addr(state.as_bytes(), address)
        {
            log::info!("the service manager cannot be told: {error}");
        }
    }

    /// Says that settings are being read anew.
    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let micros = now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }
}

/// An address that begins with `@` is of Linux's abstract names.
fn address(path: &[u8]) -> Option<SocketAddr> {
    match path {
        #[cfg(target_os = "linux")]
        [b'@', name @ ..] => <SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(name).ok(),
        _ => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(path)).ok(),
    }
}
