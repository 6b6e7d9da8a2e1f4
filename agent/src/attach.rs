//! ADD's two phases and DEL, as the agent does them: ledger, host end of the link, host routes, in the order that leaves
//! nothing behind when any step fails.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use ipnet::IpNet;
use roadbed_api::agent::{
    ApiError, Attachment, AttachmentDetail, AttachmentKey, AttachmentList, AttachmentState,
    CommitRequest, ErrorCode, Released, Reservation, ReserveRequest,
};
use roadbed_api::names::{GATEWAY_V4, GATEWAY_V6, NOTES_DIR, attachment_mac, host_ifname, ifalias};
use roadbed_fib::{FibHandle, RouteChange, RouteKind, RouteSpec, Source};
use roadbed_hostnet::{MacAddr, NetlinkError};
use roadbed_ipam::{CommitError, LedgerError, ReserveError, Row};
use tokio::sync::{OwnedMutexGuard, RwLock, watch};

use crate::blocks::{BlockView, Blocks};
use crate::config::AgentConfig;
use crate::detail;
use crate::kernel;
use crate::ledger::LedgerHandle;
use crate::sync::Known;
use crate::unwire::{UnwireError, Unwirer};

/// Metric of pod routes: before anything learned.
const METRIC: u32 = 0;
/// Notes that one audit takes.
const NOTES_PER_AUDIT: usize = 1024;

/// Does the work of the attachment routes of the local API.
#[derive(Clone)]
pub struct Attachments {
    ledger: LedgerHandle,
    blocks: Blocks,
    fib: FibHandle,
    /// Source addresses of the host routes, IPv4 and IPv6.
    known: watch::Receiver<Known>,
    /// Source addresses of the host routes that are written.
    prefsrc: Arc<Mutex<[Option<IpAddr>; 2]>>,
    /// MTU of pod interfaces, unless a network configuration sets one.
    mtu: Arc<AtomicU32>,
    mtu_fixed: bool,
    /// Where plugins leave notes about what they unwired alone.
    notes: PathBuf,
    unwirer: Unwirer,
    busy: Busy,
    /// Held shared by what changes one attachment, alone by the audit: it must not take back the route of an address
    /// that it has just freed and somebody else has just got.
    audit: Arc<RwLock<()>>,
}

/// Serialises what happens to one attachment: a DEL may come before its ADD has finished.
#[derive(Clone, Default)]
struct Busy(Arc<Mutex<HashMap<AttachmentKey, Arc<tokio::sync::Mutex<()>>>>>);

impl Busy {
    async fn lock(&self, key: &AttachmentKey) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self
                .0
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            locks.retain(|_, lock| Arc::strong_count(lock) > 1);
            locks.entry(key.clone()).or_default().clone()
        };
        lock.lock_owned().await
    }
}

impl Attachments {
    /// With these settings of the node.
    pub fn new(
        ledger: LedgerHandle,
        blocks: Blocks,
        fib: FibHandle,
        unwirer: Unwirer,
        config: &AgentConfig,
        known: watch::Receiver<Known>,
    ) -> Self {
        let prefsrc = known.borrow().identity.prefsrc();
        Self {
            ledger,
            blocks,
            fib,
            known,
            prefsrc: Arc::new(Mutex::new(prefsrc)),
            mtu: Arc::new(AtomicU32::new(config.mtu.unwrap_or(kernel::DEFAULT_MTU))),
            mtu_fixed: config.mtu.is_some(),
            notes: config.run_dir.join(NOTES_DIR),
            unwirer,
            busy: Busy::default(),
            audit: Arc::default(),
        }
    }

    /// The first phase of ADD.
    ///
    /// # Errors
    /// A wrong request, no address, or a fault below.
    pub async fn reserve(&self, request: ReserveRequest) -> Result<Reservation, ApiError> {
        if let Some(problem) = request.problem() {
            return Err(ApiError::new(ErrorCode::Invalid, problem));
        }
        let pod_mac = match &request.mac {
            Some(mac) => mac
                .parse::<MacAddr>()
                .map_err(|error| ApiError::new(ErrorCode::Invalid, format!("mac: {error}")))?,
            None => MacAddr(attachment_mac(&request.key, 1)),
        };
        let _audit = self.audit.read().await;
        let _busy = self.busy.lock(&request.key).await;
        let view = self.blocks.view();
        if !view.known {
            return Err(ApiError::new(
                ErrorCode::NotReady,
                "the agent does not know this node's blocks yet: the store was not reached since its start",
            ));
        }
        let key = request.key.clone();
        let mtu = request
            .mtu
            .unwrap_or_else(|| self.mtu.load(Ordering::Relaxed));
        let reserved = match self.ledger.reserve(&request, &view).await {
            Ok(reserved) => reserved,
            Err(error) => {
                // Perhaps a block can be had.
                self.blocks.plan_soon();
                return Err(reserve_error(&error, &self.blocks.view()));
            }
        };
        if let Some(old) = reserved.replaced {
            tracing::info!(container_id = %key.container_id, "the container has a new network namespace: unwiring the former one");
            self.unwire(&old).await?;
        }
        self.blocks.plan_soon();
        Ok(Reservation {
            state: reserved.row.state,
            addresses: reserved.row.addresses,
            mtu,
            host_ifname: host_ifname(&key),
            host_alias: ifalias(&key),
            host_mac: MacAddr(attachment_mac(&key, 0)).to_string(),
            pod_mac: pod_mac.to_string(),
            gateway_v4: GATEWAY_V4,
            gateway_v6: GATEWAY_V6,
            key,
        })
    }

    /// The second phase of ADD: returns when neighbours and routes are in the kernel.
    ///
    /// # Errors
    /// The reservation is gone, the link is not ours, or a fault below.
    pub async fn commit(
        &self,
        key: AttachmentKey,
        request: CommitRequest,
    ) -> Result<Attachment, ApiError> {
        let pod_mac = request
            .pod_mac
            .parse::<MacAddr>()
            .map_err(|error| ApiError::new(ErrorCode::Invalid, format!("podMac: {error}")))?;
        let _audit = self.audit.read().await;
        let _busy = self.busy.lock(&key).await;
        let Some(row) = self.ledger.get(&key).await else {
            return Err(ApiError::new(
                ErrorCode::Conflict,
                CommitError::NotReserved.to_string(),
            ));
        };
        if row
            .cookie
            .as_ref()
            .is_some_and(|cookie| *cookie != request.netns_cookie)
        {
            return Err(ApiError::new(
                ErrorCode::Conflict,
                CommitError::OtherNamespace.to_string(),
            ));
        }
        let ifindex = request.host_ifindex;
        // Other tasks go on on another thread meanwhile: the work is shorter than the way there and back.
        tokio::task::block_in_place(|| kernel::wire_host_end(&row, ifindex, pod_mac))
            .map_err(kernel_error)?;
        let report = self
            .fib
            .apply(self.routes(&row, Some(ifindex)))
            .await
            .map_err(internal)?;
        if let Some(failure) = report.failed.first() {
            let message = format!("host route {}: {}", failure.prefix, failure.reason);
            self.withdraw(&row).await?;
            return Err(ApiError::new(ErrorCode::Kernel, message));
        }
        match self
            .ledger
            .commit(&key, &request.netns_cookie, ifindex)
            .await
        {
            Ok(row) => {
                tracing::info!(container_id = %row.key.container_id, addresses = ?row.addresses, dev = %row.host_ifname, "attached");
                Ok(attachment(row))
            }
            Err(error) => {
                self.withdraw(&row).await?;
                Err(match error {
                    CommitError::Ledger(error) => ledger_error(&error),
                    other => ApiError::new(ErrorCode::Conflict, other.to_string()),
                })
            }
        }
    }

    /// DEL: routes first, then the link, then the addresses, so that no address is free while something still uses it.
    ///
    /// # Errors
    /// A fault below; the addresses stay reserved then.
    pub async fn release(&self, key: AttachmentKey) -> Result<Released, ApiError> {
        let _audit = self.audit.read().await;
        let _busy = self.busy.lock(&key).await;
        let row = self.ledger.get(&key).await;
        if let Some(row) = &row {
            self.withdraw(row).await?;
        }
        let unwired = self.unwirer.unwire(key.clone()).await;
        let existed = unwired.map_err(unwire_error)? || row.is_some();
        if row.is_some() {
            let released = self.ledger.release(&key).await;
            released.map_err(|error| ledger_error(&error))?;
            tracing::info!(container_id = %key.container_id, "detached");
        }
        self.blocks.plan_soon();
        Ok(Released { existed })
    }

    /// One attachment beside what the kernel has of it.
    ///
    /// # Errors
    /// There is none of this key, or the kernel cannot be asked.
    pub async fn detail(&self, key: AttachmentKey) -> Result<AttachmentDetail, ApiError> {
        let Some(row) = self.ledger.get(&key).await else {
            let message = "no such attachment on this node";
            return Err(ApiError::new(ErrorCode::NotFound, message));
        };
        let attachment = attachment(row);
        blocking(move || detail::look(attachment))
            .await?
            .map_err(kernel_error)
    }

    /// All attachments of the node.
    pub async fn list(&self) -> AttachmentList {
        let rows = self.ledger.list().await;
        AttachmentList {
            attachments: rows.into_iter().map(attachment).collect(),
        }
    }

    /// Wants the routes of attachments that are there, so that those of a former agent are adopted.
    ///
    /// # Errors
    /// When the route writer has ended.
    pub async fn adopt(&self, rows: &[Row]) -> Result<(), ApiError> {
        let changes = rows
            .iter()
            .filter(|row| row.state == AttachmentState::Committed)
            .flat_map(|row| self.routes(row, row.host_ifindex))
            .collect();
        let report = self.fib.apply(changes).await.map_err(internal)?;
        for failure in report.failed {
            tracing::error!(prefix = %failure.prefix, reason = %failure.reason, "pod route not installed");
        }
        Ok(())
    }

    /// Follows the kernel: links that vanished or appeared without us, plugins that never committed, a changed MTU.
    pub async fn audit(&self) {
        if !self.mtu_fixed
            && let Ok(Ok(mtu)) = blocking(kernel::underlay_mtu).await
        {
            self.mtu.store(mtu, Ordering::Relaxed);
        }
        self.follow_identity().await;
        {
            let _alone = self.audit.write().await;
            let notes = self.read_notes();
            let Some(reconciled) = self.ledger.reconcile().await else {
                return;
            };
            let gone = reconciled
                .released
                .iter()
                .flat_map(|row| self.routes(row, None));
            let there = reconciled.added.iter().chain(&reconciled.corrected);
            let there = there.flat_map(|row| self.routes(row, row.host_ifindex));
            let changes: Vec<RouteChange> = gone.chain(there).collect();
            if !changes.is_empty() {
                // The writer only stops with the whole process.
                self.fib.apply(changes).await.ok();
                self.blocks.plan_soon();
            }
            for note in notes {
                // What it spoke of is in the ledger now. One that cannot be removed is read again.
                std::fs::remove_file(note).ok();
            }
        }
        for row in self.ledger.expired().await {
            let _audit = self.audit.read().await;
            let _busy = self.busy.lock(&row.key).await;
            // It may have come back while we waited for the lock.
            let current = self.ledger.get(&row.key).await;
            if current.as_ref() != Some(&row) {
                continue;
            }
            tracing::warn!(container_id = %row.key.container_id, "a plugin never came back to commit: undoing its work");
            if self.unwire(&row).await.is_ok() {
                self.ledger.release_row(&row).await.ok();
            }
        }
    }

    /// A node whose address changed sends from the new one.
    async fn follow_identity(&self) {
        let now = self.known.borrow().identity.prefsrc();
        let before = std::mem::replace(&mut *self.lock_prefsrc(), now);
        if before != now {
            tracing::info!(
                ?before,
                ?now,
                "node address changed: host routes are written again"
            );
            let _alone = self.audit.write().await;
            // The writer only stops with the whole process.
            self.adopt(&self.ledger.list().await).await.ok();
        }
    }

    fn lock_prefsrc(&self) -> std::sync::MutexGuard<'_, [Option<IpAddr>; 2]> {
        self.prefsrc
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Files of the notes that are there. They only say that a link is gone, which the kernel says as well.
    fn read_notes(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(&self.notes)
            .into_iter()
            .flatten()
            .flatten();
        let notes = entries
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|e| e == "json"));
        notes.take(NOTES_PER_AUDIT).collect()
    }

    async fn unwire(&self, row: &Row) -> Result<(), ApiError> {
        self.withdraw(row).await?;
        let unwired = self.unwirer.unwire(row.key.clone()).await;
        unwired.map(drop).map_err(unwire_error)
    }

    async fn withdraw(&self, row: &Row) -> Result<(), ApiError> {
        let report = self
            .fib
            .apply(self.routes(row, None))
            .await
            .map_err(internal)?;
        match report.failed.first() {
            Some(failure) => Err(ApiError::new(
                ErrorCode::Kernel,
                format!("host route {}: {}", failure.prefix, failure.reason),
            )),
            None => Ok(()),
        }
    }

    /// Host routes of an attachment over a link, or their removal.
    fn routes(&self, row: &Row, ifindex: Option<u32>) -> Vec<RouteChange> {
        let prefsrc = *self.lock_prefsrc();
        let change = |address: &IpAddr| {
            let prefix = IpNet::from(*address);
            match ifindex {
                None => RouteChange::withdraw(Source::Pod, prefix),
                Some(ifindex) => RouteChange::want(
                    Source::Pod,
                    RouteSpec {
                        prefix,
                        kind: RouteKind::Device { ifindex },
                        prefsrc: prefsrc[usize::from(address.is_ipv6())],
                        metric: METRIC,
                    },
                ),
            }
        };
        row.addresses.iter().map(change).collect()
    }
}

fn attachment(row: Row) -> Attachment {
    Attachment {
        key: row.key,
        state: row.state,
        pod: row.pod,
        addresses: row.addresses,
        host_ifname: row.host_ifname,
        host_ifindex: row.host_ifindex,
    }
}

/// Runs what may block for long on a thread for that.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| ApiError::new(ErrorCode::Internal, error.to_string()))
}

/// A pool is full when no block can be had of it; until the planner says so, waiting may help.
fn reserve_error(error: &ReserveError, view: &BlockView) -> ApiError {
    let code = match error {
        ReserveError::NoPool | ReserveError::NoBlock { .. } => ErrorCode::NotReady,
        ReserveError::PoolFull { family, .. } if view.may_grow(*family) => ErrorCode::NotReady,
        ReserveError::PoolFull { .. } => ErrorCode::PoolFull,
        ReserveError::Held { .. } => ErrorCode::Conflict,
        ReserveError::Outside { .. } => ErrorCode::Invalid,
        ReserveError::Ledger(_) => ErrorCode::Internal,
    };
    ApiError::new(code, error.to_string())
}

fn unwire_error(error: UnwireError) -> ApiError {
    let code = match error {
        UnwireError::Gone => ErrorCode::Internal,
        UnwireError::Kernel(_) => ErrorCode::Kernel,
    };
    ApiError::new(code, error.to_string())
}

fn kernel_error(error: NetlinkError) -> ApiError {
    ApiError::new(ErrorCode::Kernel, error.to_string())
}

fn ledger_error(error: &LedgerError) -> ApiError {
    ApiError::new(ErrorCode::Internal, error.to_string())
}

fn internal(error: roadbed_fib::FibError) -> ApiError {
    ApiError::new(ErrorCode::Internal, error.to_string())
}

/// Names of our host links, by index.
///
/// # Errors
/// When the kernel cannot be asked.
pub async fn link_names() -> Result<std::collections::BTreeMap<u32, String>, ApiError> {
    let attachments = blocking(kernel::attachments).await?.map_err(kernel_error)?;
    Ok(attachments
        .into_iter()
        .map(|a| (a.host_ifindex, a.host_ifname))
        .collect())
}
