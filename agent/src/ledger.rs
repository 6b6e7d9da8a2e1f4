//! The ledger of addresses as the agent's tasks use it: short calls, one at a time.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use roadbed_api::agent::{AttachmentKey, ReserveRequest};
use roadbed_ipam::{
    AddressRequest, CommitError, KernelAttachment, Ledger, LedgerError, LedgerSettings,
    OpenOutcome, Reconciled, ReserveError, Reserved, Row, Usage,
};
use tokio::sync::Mutex;

use crate::blocks::BlockView;
use crate::kernel;

/// How long a plugin may take between its two phases.
pub const WIRING_DEADLINE: Duration = Duration::from_secs(30);

/// One call at a time, in the caller's task: the longest is a write to the page cache, shorter than waking a thread. The
/// comparison with the kernel alone is made on a thread that may block.
#[derive(Clone)]
pub struct LedgerHandle {
    ledger: Arc<Mutex<Ledger>>,
}

/// Opens the ledger; the rows that are there.
///
/// # Errors
/// When the kernel cannot be asked or the file cannot be made.
pub fn open(
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
    let ledger = opened.ledger;
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
    let ledger = Arc::new(Mutex::new(ledger));
    Ok((LedgerHandle { ledger }, rows))
}

impl LedgerHandle {
    /// Addresses for an attachment.
    ///
    /// # Errors
    /// See [`Ledger::reserve`].
    pub async fn reserve(
        &self,
        request: &ReserveRequest,
        view: &BlockView,
    ) -> Result<Reserved, ReserveError> {
        let mut ledger = self.ledger.lock().await;
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
    }

    /// What is reserved for an attachment.
    pub async fn get(&self, key: &AttachmentKey) -> Option<Row> {
        self.ledger.lock().await.get(key).cloned()
    }

    /// Marks an attachment as wired.
    ///
    /// # Errors
    /// See [`Ledger::commit`].
    pub async fn commit(
        &self,
        key: &AttachmentKey,
        cookie: &str,
        ifindex: u32,
    ) -> Result<Row, CommitError> {
        self.ledger.lock().await.commit(key, cookie, ifindex)
    }

    /// Gives addresses back.
    ///
    /// # Errors
    /// See [`Ledger::release`].
    pub async fn release(&self, key: &AttachmentKey) -> Result<Option<Row>, LedgerError> {
        self.ledger.lock().await.release(key, kernel::since_boot())
    }

    /// Gives addresses back when the row is still this one.
    ///
    /// # Errors
    /// See [`Ledger::release_row`].
    pub async fn release_row(&self, row: &Row) -> Result<bool, LedgerError> {
        let mut ledger = self.ledger.lock().await;
        ledger.release_row(row, kernel::since_boot())
    }

    /// Rows whose plugin took too long.
    pub async fn expired(&self) -> Vec<Row> {
        self.ledger.lock().await.expired(kernel::since_boot())
    }

    /// All rows, in the order of their keys.
    pub async fn list(&self) -> Vec<Row> {
        self.ledger.lock().await.list()
    }

    /// Counts of these blocks.
    pub async fn usage(&self, blocks: Vec<IpNet>) -> BTreeMap<IpNet, Usage> {
        let (ledger, now) = (self.ledger.lock().await, kernel::since_boot());
        let usage = |block: IpNet| (block, ledger.usage(&block, now));
        blocks.into_iter().map(usage).collect()
    }

    /// Brings the rows in line with the kernel; `None` when it could not be asked. The ledger is held meanwhile: no
    /// attachment can be committed between the look and the comparison.
    pub async fn reconcile(&self) -> Option<Reconciled> {
        let mut ledger = self.ledger.clone().lock_owned().await;
        let compare = move || {
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
        };
        tokio::task::spawn_blocking(compare).await.ok().flatten()
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
