//! One open file: schema, reads, writes, history.
//!
//! `objects` holds what is, `changes` the last [`HISTORY`] things that happened, `meta` which history this is and
//! the last creation time given. A change's number is the revision that the object got by it.

use std::path::Path;
use std::time::{Duration, Instant};

use jiff::Timestamp as Moment;
use roadbed_api::{Kind, Metadata, Object};
use rusqlite::{
    Connection, OpenFlags, OptionalExtension, Transaction, TransactionBehavior, params,
};
use serde_json::Value;

use crate::error::StoreError;
use crate::rules::{Request, Write};
use crate::store::{Labels, Listing, ResumePoint, carries};
use crate::watch::{BATCH, Change, Pulled};

/// Changes that are kept for watchers. At 10 blocks per node a restart of 400 nodes fits.
pub(crate) const HISTORY: i64 = 4096;
/// How long an operation waits for another process's write.
pub(crate) const BUSY: Duration = Duration::from_secs(5);
/// Pause between attempts that SQLite does not make by itself.
const RETRY: Duration = Duration::from_millis(10);
/// Layout of the tables; a file with a higher one is refused.
const SCHEMA: i64 = 1;
/// `RdBd`, where SQLite keeps whose file it is.
const APPLICATION: i64 = 0x5264_4264;

const TABLES: &str = "
    CREATE TABLE meta (key TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;
    CREATE TABLE objects (
        kind TEXT NOT NULL, name TEXT NOT NULL, body TEXT NOT NULL,
        PRIMARY KEY (kind, name)
    ) WITHOUT ROWID;
    CREATE TABLE changes (
        seq INTEGER PRIMARY KEY, kind TEXT NOT NULL, deleted INTEGER NOT NULL,
        labels_before TEXT, body TEXT NOT NULL
    );
";

/// What goes wrong inside; the worker adds the home's name.
#[derive(Debug)]
pub(crate) enum Fault {
    /// An answer that is meant for the caller.
    Answer(StoreError),
    /// SQLite does not do it.
    Sql(rusqlite::Error),
    /// The file can not be used as a store.
    Refused(String),
    /// Not now.
    Away(String),
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Answer(error)
    }
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

/// An open store file.
#[derive(Debug)]
pub(crate) struct Db {
    conn: Connection,
    store_id: String,
    history: i64,
    /// Set by every write that changed something.
    pub(crate) wrote: bool,
}

impl Db {
    /// Opens the file at the path; creates file and tables when asked to.
    pub(crate) fn open(path: &Path, create: bool, history: i64) -> Result<Self, Fault> {
        let deadline = Instant::now() + BUSY;
        loop {
            match Self::open_once(path, create, history) {
                // The switch to WAL, and the first look at a WAL, answer "busy" at once when another process does the
                // same: SQLite's own waiting does not cover them.
                Err(Fault::Sql(error)) if is_busy(&error) && Instant::now() < deadline => {
                    std::thread::sleep(RETRY);
                }
                other => return other,
            }
        }
    }

    fn open_once(path: &Path, create: bool, history: i64) -> Result<Self, Fault> {
        let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        flags.set(OpenFlags::SQLITE_OPEN_CREATE, create);
        let mut conn = Connection::open_with_flags(path, flags)?;
        conn.busy_timeout(BUSY)?;
        // A lost machine must not bring back a block that was claimed and announced.
        conn.pragma_update(None, "synchronous", "FULL")?;
        if create {
            initialise(&mut conn)?;
        }
        // One look: another process may be making the store between two.
        let look = conn.transaction()?;
        let pragma = |name| look.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let (application, schema) = (pragma("application_id")?, pragma("user_version")?);
        if application != APPLICATION {
            let empty =
                look.query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |r| r.get(0))?;
            return Err(if empty {
                Fault::Away("the file is empty: `roadbedctl apply` fills it".to_owned())
            } else {
                Fault::Refused("the file is a database of something else".to_owned())
            });
        }
        if schema > SCHEMA {
            return Err(Fault::Refused(format!(
                "its schema is {schema} and this program knows up to {SCHEMA}: upgrade this program"
            )));
        }
        let store_id =
            look.query_row("SELECT value FROM meta WHERE key = 'id'", [], |r| r.get(0))?;
        look.commit()?;
        Ok(Self {
            conn,
            store_id,
            history: history.max(1),
            wrote: false,
        })
    }

    /// Changes when another connection has written.
    pub(crate) fn data_version(&self) -> Result<i64, Fault> {
        Ok(self
            .conn
            .pragma_query_value(None, "data_version", |row| row.get(0))?)
    }

    pub(crate) fn get(&mut self, kind: Kind, name: &str) -> Result<Option<Object>, Fault> {
        read(&self.conn, kind, name)
    }

    pub(crate) fn list(&mut self, kind: Kind, labels: &Labels) -> Result<Listing, Fault> {
        // One transaction: the objects and the number of the last change are of one moment.
        let tx = self.conn.transaction()?;
        let mut objects = Vec::new();
        {
            let mut statement =
                tx.prepare_cached("SELECT body FROM objects WHERE kind = ?1 ORDER BY name")?;
            let mut rows = statement.query([kind.as_str()])?;
            while let Some(row) = rows.next()? {
                let object = decode(kind, row.get_ref(0)?.as_str().unwrap_or_default())?;
                if carries(&object.metadata.labels, labels) {
                    objects.push(object);
                }
            }
        }
        let seq = head(&tx)?;
        Ok(Listing {
            objects,
            resume: ResumePoint {
                store_id: self.store_id.clone(),
                seq,
            },
        })
    }

    pub(crate) fn write(&mut self, request: Request) -> Result<Object, Fault> {
        // Immediate: the lock is taken before the read, so that no other process writes in between.
        let tx = self
            .conn
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let (kind, name) = request.target();
        let name = name.to_owned();
        let existing = read(&tx, kind, &name)?;
        let seq = head(&tx)? + 1;
        let mut clock = clock(&tx)?;
        let before = clock;
        let write = request.decide(existing.as_ref(), seq, &mut clock, Moment::now())?;
        let (object, deleted) = match write {
            Write::Nothing(object) => return Ok(object),
            Write::Put(object) => (object, false),
            Write::Delete(object) => (object, true),
        };
        let body = encode(&object);
        let kind = kind.as_str();
        if deleted {
            tx.prepare_cached("DELETE FROM objects WHERE kind = ?1 AND name = ?2")?
                .execute(params![kind, name])?;
        } else {
            tx.prepare_cached("INSERT OR REPLACE INTO objects VALUES (?1, ?2, ?3)")?
                .execute(params![kind, name, body])?;
        }
        let labels_before = existing
            .map(|o| serde_json::to_string(&o.metadata.labels).unwrap_or_else(|_| "{}".to_owned()));
        tx.prepare_cached("INSERT INTO changes VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute(params![seq, kind, deleted, labels_before, body])?;
        tx.prepare_cached("DELETE FROM changes WHERE seq <= ?1")?
            .execute([seq.saturating_sub(self.history)])?;
        if clock != before {
            let micros = clock.map(|c| c.as_microsecond());
            tx.prepare_cached("INSERT OR REPLACE INTO meta VALUES ('clock', ?1)")?
                .execute([micros])?;
        }
        tx.commit()?;
        self.wrote = true;
        Ok(object)
    }

    pub(crate) fn pull(&mut self, kind: Kind, from: &ResumePoint) -> Result<Pulled, Fault> {
        let tx = self.conn.transaction()?;
        let head = head(&tx)?;
        let kept_after: i64 = tx
            .prepare_cached("SELECT coalesce(min(seq) - 1, 0) FROM changes")?
            .query_row([], |row| row.get(0))?;
        if from.store_id != self.store_id || from.seq > head || from.seq < kept_after {
            return Err(StoreError::Compacted { kind }.into());
        }
        let mut changes = Vec::new();
        let mut statement = tx.prepare_cached(
            "SELECT seq, deleted, labels_before, body FROM changes
             WHERE seq > ?1 AND kind = ?2 ORDER BY seq LIMIT ?3",
        )?;
        let mut rows = statement.query(params![from.seq, kind.as_str(), BATCH as i64])?;
        while let Some(row) = rows.next()? {
            let labels: Option<String> = row.get(2)?;
            changes.push(Change {
                seq: row.get(0)?,
                deleted: row.get(1)?,
                labels_before: match labels {
                    Some(text) => Some(serde_json::from_str(&text).map_err(|e| damaged(kind, &e))?),
                    None => None,
                },
                object: decode(kind, row.get_ref(3)?.as_str().unwrap_or_default())?,
            });
        }
        let upto = match changes.last() {
            Some(last) if changes.len() == BATCH => last.seq,
            _ => head,
        };
        Ok(Pulled { changes, upto })
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked};
    matches!(
        error.sqlite_error_code(),
        Some(DatabaseBusy | DatabaseLocked)
    )
}

/// Makes tables in an empty file; leaves a filled one as it is.
fn initialise(conn: &mut Connection) -> Result<(), Fault> {
    let empty = "SELECT count(*) = 0 FROM sqlite_schema";
    if !conn.query_row(empty, [], |row| row.get::<_, bool>(0))? {
        return Ok(());
    }
    conn.pragma_update(None, "journal_mode", "WAL")?;
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Another process may have been faster.
    if tx.query_row(empty, [], |row| row.get::<_, bool>(0))? {
        tx.execute_batch(TABLES)?;
        tx.execute(
            "INSERT INTO meta VALUES ('id', ?1)",
            [uuid::Uuid::new_v4().to_string()],
        )?;
        tx.pragma_update(None, "application_id", APPLICATION)?;
        tx.pragma_update(None, "user_version", SCHEMA)?;
    }
    Ok(tx.commit()?)
}

fn read(conn: &Connection, kind: Kind, name: &str) -> Result<Option<Object>, Fault> {
    let body: Option<String> = conn
        .prepare_cached("SELECT body FROM objects WHERE kind = ?1 AND name = ?2")?
        .query_row(params![kind.as_str(), name], |row| row.get(0))
        .optional()?;
    body.map(|body| decode(kind, &body)).transpose()
}

fn head(tx: &Transaction<'_>) -> Result<i64, Fault> {
    Ok(tx
        .prepare_cached("SELECT coalesce(max(seq), 0) FROM changes")?
        .query_row([], |row| row.get(0))?)
}

fn clock(tx: &Transaction<'_>) -> Result<Option<Moment>, Fault> {
    let micros: Option<i64> = tx
        .prepare_cached("SELECT value FROM meta WHERE key = 'clock'")?
        .query_row([], |row| row.get(0))
        .optional()?;
    Ok(micros.and_then(|m| Moment::from_microsecond(m).ok()))
}

/// The document as people see it, so that `sqlite3` shows what `roadbedctl` shows.
fn encode(object: &Object) -> String {
    object.to_document().to_string()
}

fn decode(kind: Kind, body: &str) -> Result<Object, Fault> {
    #[derive(serde::Deserialize)]
    struct Body {
        metadata: Metadata,
        spec: Value,
        #[serde(default)]
        status: Option<Value>,
    }
    let body: Body = serde_json::from_str(body).map_err(|e| damaged(kind, &e))?;
    Ok(Object {
        kind,
        metadata: body.metadata,
        spec: body.spec,
        status: body.status,
    })
}

fn damaged(kind: Kind, error: &serde_json::Error) -> Fault {
    Fault::Refused(format!("a row of {kind} cannot be read: {error}"))
}
