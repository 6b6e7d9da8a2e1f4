//! A running speaker under other options: what it takes over, and what takes another speaker.

use std::collections::HashSet;
use std::time::Duration;

use bgp_core::rib::Event;
use ipnet::IpNet;
use roadbed_fib::{FibEvents, FibHandle};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::{Speaker, SpeakerOptions, StartError};
use crate::listener::{self, Admission};

/// How long the kernel may take to come to rest: a table's worth of routes may be under way.
const HAND_OVER_DEADLINE: Duration = Duration::from_secs(30);

/// What a speaker needs of the kernel, and what an earlier one of this process left there.
#[derive(Debug)]
pub struct Remains {
    pub(super) fib: FibHandle,
    pub(super) events: FibEvents,
    /// Learned routes that nobody has confirmed since.
    pub(super) routes: HashSet<IpNet>,
}

impl Remains {
    /// Nothing but the way to the kernel.
    pub fn none(fib: FibHandle, events: FibEvents) -> Self {
        Self {
            fib,
            events,
            routes: HashSet::new(),
        }
    }
}

impl SpeakerOptions {
    /// Whether both are the same speaker to its peers: what every OPEN says of it.
    pub fn is_same_speaker(&self, other: &SpeakerOptions) -> bool {
        (self.local_as, self.router_id) == (other.local_as, other.router_id)
    }
}

impl Speaker {
    /// Takes over what no OPEN says: the port and the cluster. AS and Identifier stay what they are.
    ///
    /// # Errors
    /// When nobody can listen on the new port; the old one is kept then.
    pub async fn adjust(&mut self, options: &SpeakerOptions) -> Result<(), StartError> {
        if self.options.cluster_id != options.cluster_id {
            self.options.cluster_id = options.cluster_id;
            // A RIB thread that has ended is reported by whatever comes next.
            let cluster = Event::ClusterId(options.cluster_id);
            self.rib.event(cluster).await.ok();
        }
        if self.options.listen_port != options.listen_port {
            let port = options.listen_port;
            let new = match port {
                0 => None,
                port => {
                    let mut admission = self.admission.subscribe();
                    // The peers are known.
                    admission.mark_changed();
                    Some(listen(listener::bind(port)?, admission))
                }
            };
            if let Some(old) = std::mem::replace(&mut self.listener, new) {
                close(old).await;
            }
            self.options.listen_port = port;
            tracing::info!(port, "listening");
        }
        Ok(())
    }

    /// Ends as [`Speaker::stop`] does, for another speaker in its place. `None` when it did not get the kernel to rest: then
    /// nobody can follow in this process.
    pub async fn hand_over(mut self, message: &str) -> Option<Remains> {
        // Before the sessions end, or their routes would be withdrawn with them.
        self.kernel_stop.cancel();
        let at_rest = tokio::time::timeout(HAND_OVER_DEADLINE, &mut self.kernel_task).await;
        self.kernel_task.abort();
        self.say_goodbye(message).await;
        let kernel = at_rest.ok()?.ok()?;
        let end = tokio::time::timeout(HAND_OVER_DEADLINE, kernel.end());
        let (fib, events, routes) = end.await.ok()?;
        Some(Remains {
            fib,
            events,
            routes,
        })
    }
}

/// Ends a listener; its port is free then.
pub(super) async fn close(listener: AbortOnDropHandle<()>) {
    listener.abort();
    // That is how it ends.
    listener.await.ok();
}

pub(super) fn listen(
    listener: TcpListener,
    admission: watch::Receiver<Admission>,
) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(listener::run(listener, admission)))
}
