//! Which of many sockets can be read or written, at the price of those that can.

use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

/// Events that one call returns at most.
const EVENTS: usize = 512;

/// What a socket is looked at for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum For {
    Reading,
    Writing,
    /// Until it is connected, or refused.
    Both,
}

impl For {
    fn flags(self) -> EpollFlags {
        match self {
            For::Reading => EpollFlags::EPOLLIN,
            For::Writing => EpollFlags::EPOLLOUT,
            For::Both => EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT,
        }
    }
}

/// Sockets by number. One that is closed is looked at no more.
pub(crate) struct Poller {
    epoll: Epoll,
    events: Vec<EpollEvent>,
}

impl Poller {
    pub(crate) fn new() -> Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).context("cannot make an epoll")?;
        Ok(Self {
            epoll,
            events: vec![EpollEvent::empty(); EVENTS],
        })
    }

    pub(crate) fn add(&self, socket: impl AsFd, number: usize, what: For) -> Result<()> {
        let event = EpollEvent::new(what.flags(), number as u64);
        self.epoll.add(socket, event).context("cannot poll")
    }

    pub(crate) fn change(&self, socket: impl AsFd, number: usize, what: For) -> Result<()> {
        let mut event = EpollEvent::new(what.flags(), number as u64);
        self.epoll.modify(socket, &mut event).context("cannot poll")
    }

    pub(crate) fn forget(&self, socket: impl AsFd) -> Result<()> {
        self.epoll.delete(socket).context("cannot poll")
    }

    /// Puts the numbers of sockets into `ready` that are ready within `limit`, or have failed; each again until what it is
    /// ready for was done.
    pub(crate) fn wait(&mut self, limit: Duration, ready: &mut Vec<usize>) -> Result<()> {
        let limit = EpollTimeout::try_from(limit).unwrap_or(EpollTimeout::ZERO);
        let count = match self.epoll.wait(&mut self.events, limit) {
            Ok(count) => count,
            Err(Errno::EINTR) => 0,
            Err(errno) => return Err(errno).context("cannot poll"),
        };
        ready.clear();
        ready.extend(self.events[..count].iter().map(|e| e.data() as usize));
        Ok(())
    }
}
