//! The thread that owns the ledger of addresses: short calls, one at a time, each answered.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use ipnet::IpNet;
use roadbed_api::agent::{AttachmentKey, ReserveRequest};
use roadbed_ipam::{
    AddressRequest, CommitError, KernelAttachment, Ledger, LedgerError, LedgerSettings,
    OpenOutcome, Reconciled, ReserveError, Reserved, Row, Usage,
};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use crate::blocks::BlockView;
use crate::kernel;

/// Calls that may wait.
const QUEUE: usize = 256;
/// How long a plugin may take between its two phases.
pub const WIRING_DEADLINE: Duration = Duration::from_secs(30);

type Call = Box<dyn FnOnce(&mut Ledger) + Send>;

/// The thread has ended; it does so only with the process.
#[derive(Debug, Error)]
#[error("the ledger's thread has ended")]
pub struct LedgerGone;

/// Speaks to the thread.
#[derive(Clone)]
pub struct LedgerHandle {
    calls: mpsc::Sender<Call>,
}

/// Opens the ledger and starts its thread; the rows that are there.
///
/// # Errors
/// When the kernel cannot be asked or the file cannot be made.
pub fn start(
    path: &Path,
    boot_id: &str,
    cool_down: Duration,
) -> Result<(LedgerHandle, Vec<Row>), LedgerError> {
    let settings = LedgerSettings { cool_down };
    let opened = Ledger::open(
        path,
        boot_id,
        settings,
        kernel::attachments,
        kernel::since_boot(),
    )?;
    let mut ledger = opened.ledger;
    match &opened.outcome {
        OpenOutcome::Adopted => {}
        OpenOutcome::NewBoot => tracing::info!("first start since boot: the ledger begins anew"),
        OpenOutcome::Rebuilt(reason) if ledger.list().is_empty() => {
            tracing::info!(%reason, "a new ledger; the kernel has no attachment of ours");
        }
        OpenOutcome::Rebuilt(reason) => {
            tracing::warn!(%reason, rows = ledger.list().len(), "ledger rebuilt from the kernel");
        }
    }
    report(&opened.reconciled);
    let rows = ledger.list();
    let (calls, mut queue) = mpsc::channel::<Call>(QUEUE);
    let run = move || {
        while let Some(call) = queue.blocking_recv() {
            call(&mut ledger);
        }
    };
    std::thread::Builder::new()
        .name("ledger".into())
        .spawn(run)
        .map_err(|source| LedgerError::Path {
            path: path.to_owned(),
            source,
        })?;
    Ok((LedgerHandle { calls }, rows))
}

impl LedgerHandle {
    async fn call<T: Send + 'static>(
        &self,
        call: impl FnOnce(&mut Ledger) -> T + Send + 'static,
    ) -> Result<T, LedgerGone> {
        let (reply, answer) = oneshot::channel();
        let call: Call = Box::new(move |ledger| {
            // Who asked may have gone.
            drop(reply.send(call(ledger)));
        });
        self.calls.send(call).await.map_err(|_| LedgerGone)?;
        answer.await.map_err(|_| LedgerGone)
    }

    /// Addresses for an attachment.
    pub async fn reserve(
        &self,
        request: ReserveRequest,
        view: std::sync::Arc<BlockView>,
    ) -> Result<Result<Reserved, ReserveError>, LedgerGone> {
        self.call(move |ledger| {
            let now = kernel::since_boot();
            let request = AddressRequest {
                key: &request.key,
                cookie: &request.netns_cookie,
                pod: request.pod.as_ref(),
                families: &view.families,
                blocks: &view.blocks,
                chosen: &request.addresses,
                foreign: request.foreign,
            };
            ledger.reserve(&request, now + WIRING_DEADLINE, now)
        })
        .await
    }

    /// What is reserved for an attachment.
    pub async fn get(&self, key: AttachmentKey) -> Result<Option<Row>, LedgerGone> {
        self.call(move |ledger| ledger.get(&key).cloned()).await
    }

    /// Marks an attachment as wired.
    pub async fn commit(
        &self,
        key: AttachmentKey,
        cookie: String,
        ifindex: u32,
    ) -> Result<Result<Row, CommitError>, LedgerGone> {
        self.call(move |ledger| ledger.commit(&key, &cookie, ifindex))
            .await
    }

    /// Gives addresses back.
    pub async fn release(
        &self,
        key: AttachmentKey,
    ) -> Result<Result<Option<Row>, LedgerError>, LedgerGone> {
        self.call(move |ledger| ledger.release(&key, kernel::since_boot()))
            .await
    }

    /// Gives addresses back when the row is still this one.
    pub async fn release_row(&self, row: Row) -> Result<Result<bool, LedgerError>, LedgerGone> {
        self.call(move |ledger| ledger.release_row(&row, kernel::since_boot()))
            .await
    }

    /// Rows whose plugin took too long.
    pub async fn expired(&self) -> Result<Vec<Row>, LedgerGone> {
        self.call(|ledger| ledger.expired(kernel::since_boot()))
            .await
    }

    /// All rows, in the order of their keys.
    pub async fn list(&self) -> Result<Vec<Row>, LedgerGone> {
        self.call(|ledger| ledger.list()).await
    }

    /// Counts of these blocks.
    pub async fn usage(&self, blocks: Vec<IpNet>) -> Result<BTreeMap<IpNet, Usage>, LedgerGone> {
        self.call(move |ledger| {
            let now = kernel::since_boot();
            blocks
                .into_iter()
                .map(|block| (block, ledger.usage(&block, now)))
                .collect()
        })
        .await
    }

    /// Brings the rows in line with the kernel. The kernel is read inside the call: no attachment can be committed
    /// between the look and the comparison.
    pub async fn reconcile(&self) -> Result<Option<Reconciled>, LedgerGone> {
        self.call(|ledger| {
            let attachments: Vec<KernelAttachment> = match kernel::attachments() {
                Ok(attachments) => attachments,
                Err(error) => {
                    tracing::warn!(%error, "cannot list attachments");
                    return None;
                }
            };
            match ledger.reconcile(&attachments, kernel::since_boot()) {
                Ok(reconciled) => {
                    report(&reconciled);
                    Some(reconciled)
                }
                Err(error) => {
                    tracing::error!(%error, "the ledger cannot be written");
                    None
                }
            }
        })
        .await
    }
}

fn report(reconciled: &Reconciled) {
    let shown = |row: &Row| {
        row.addresses
            .iter()
            .map(IpAddr::to_string)
            .collect::<Vec<_>>()
            .join(" ")
    };
    for row in &reconciled.released {
        tracing::info!(container_id = %row.key.container_id, addresses = %shown(row), "attachment gone: addresses released");
    }
    for row in &reconciled.added {
        tracing::info!(container_id = %row.key.container_id, addresses = %shown(row), "attachment found in the kernel");
    }
    for (key, address) in &reconciled.conflicts {
        tracing::error!(container_id = %key.container_id, %address, "the kernel routes an address to two attachments");
    }
}
