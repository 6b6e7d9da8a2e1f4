//! A unix stream on which everything together ends by a deadline.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};

/// A stream whose reads and writes fail with `TimedOut` once the deadline has passed. No deadline: they wait.
#[derive(Debug)]
pub(crate) struct DeadlineStream {
    stream: UnixStream,
    deadline: Option<Instant>,
}

impl DeadlineStream {
    /// Connects by the deadline. On a listener that accepts nothing and whose backlog is full, `connect(2)` waits for as
    /// long as a write may take, then fails with EAGAIN.
    pub(crate) fn connect(path: &Path, deadline: Instant) -> io::Result<Self> {
        let address = SockAddr::unix(path)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        loop {
            socket.set_write_timeout(Some(remaining(deadline)?))?;
            match socket.connect(&address) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(timed_out(error)),
                Ok(()) => break,
            }
        }
        Ok(Self {
            stream: socket.into(),
            deadline: Some(deadline),
        })
    }

    /// From now on, all ends by this.
    pub(crate) fn set_deadline(&mut self, deadline: Instant) {
        self.deadline = Some(deadline);
    }

    /// From now on, every single read may take this long; `None`: any time.
    pub(crate) fn set_idle_timeout(&mut self, idle: Option<Duration>) -> io::Result<()> {
        self.deadline = None;
        self.stream.set_read_timeout(idle)
    }
}

/// Time left, never zero (which would mean "for ever" to the kernel, as less than a microsecond would).
fn remaining(deadline: Instant) -> io::Result<Duration> {
    match deadline.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(io::ErrorKind::TimedOut.into()),
        left => Ok(left.max(Duration::from_micros(1))),
    }
}

fn timed_out(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::WouldBlock {
        io::ErrorKind::TimedOut.into()
    } else {
        error
    }
}

impl Read for DeadlineStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(deadline) = self.deadline {
            self.stream.set_read_timeout(Some(remaining(deadline)?))?;
        }
        self.stream.read(buffer).map_err(timed_out)
    }
}

impl Write for DeadlineStream {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        if let Some(deadline) = self.deadline {
            self.stream.set_write_timeout(Some(remaining(deadline)?))?;
        }
        self.stream.write(buffer).map_err(timed_out)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}
