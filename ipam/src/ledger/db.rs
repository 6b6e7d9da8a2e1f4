//! The ledger's file.
//!
//! WAL without sync: a killed process leaves a whole file, a lost machine leaves none that counts.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use roadbed_api::agent::{AttachmentKey, AttachmentState};
use roadbed_api::names::host_ifname;
use rusqlite::{Connection, OpenFlags, params};

use super::Row;
use super::error::LedgerError;
use super::index::Release;

/// Layout of the tables.
const SCHEMA: i64 = 1;
/// `RdLg`, where SQLite keeps whose file it is.
const APPLICATION: i64 = 0x5264_4c67;
/// Releases that are remembered; the oldest are forgotten first. Twice the largest block.
const MAX_RELEASED: u64 = 8192;

const TABLES: &str = "
    CREATE TABLE boot (id TEXT NOT NULL);
    CREATE TABLE attachments (
        network TEXT NOT NULL, container_id TEXT NOT NULL, ifname TEXT NOT NULL,
        cookie TEXT, committed INTEGER NOT NULL, pod TEXT, host_ifindex INTEGER, deadline_ms INTEGER,
        PRIMARY KEY (network, container_id, ifname)
    ) WITHOUT ROWID;
    CREATE TABLE addresses (
        address TEXT PRIMARY KEY,
        network TEXT NOT NULL, container_id TEXT NOT NULL, ifname TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX addresses_by_key ON addresses (network, container_id, ifname);
    CREATE TABLE released (
        place INTEGER PRIMARY KEY, address TEXT NOT NULL UNIQUE, at_ms INTEGER NOT NULL
    );
";

/// What a file says.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) boot_id: String,
    pub(crate) rows: Vec<Row>,
    pub(crate) released: BTreeMap<IpAddr, Release>,
}

#[derive(Debug)]
pub(crate) struct Db {
    conn: Connection,
    path: PathBuf,
}

impl Db {
    /// Reads a file; in words why not, when it is of no use.
    pub(crate) fn load(path: &Path) -> Result<(Self, Loaded), String> {
        if !path.exists() {
            return Err("there is no ledger yet".to_owned());
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let read = || -> Result<_, rusqlite::Error> {
            let conn = Connection::open_with_flags(path, flags)?;
            settings(&conn)?;
            let text = |name| conn.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
            let (application, schema) = (text("application_id")?, text("user_version")?);
            let check: String =
                conn.pragma_query_value(None, "integrity_check", |row| row.get(0))?;
            Ok((conn, application, schema, check))
        };
        let (conn, application, schema, check) = read().map_err(|e| e.to_string())?;
        if application != APPLICATION {
            return Err("it is not a ledger".to_owned());
        }
        if schema != SCHEMA {
            return Err(format!("its schema is {schema}, not {SCHEMA}"));
        }
        if check != "ok" {
            return Err(format!("it is damaged: {check}"));
        }
        let loaded = load_rows(&conn)?;
        let path = path.to_owned();
        Ok((Self { conn, path }, loaded))
    }

    /// Begins a file where there is none.
    pub(crate) fn create(path: &Path, boot_id: &str) -> Result<(Self, Loaded), LedgerError> {
        let make = || -> Result<Connection, rusqlite::Error> {
            let mut conn = Connection::open(path)?;
            settings(&conn)?;
            let tx = conn.transaction()?;
            tx.execute_batch(TABLES)?;
            tx.execute("INSERT INTO boot VALUES (?1)", [boot_id])?;
            tx.pragma_update(None, "application_id", APPLICATION)?;
            tx.pragma_update(None, "user_version", SCHEMA)?;
            tx.commit()?;
            Ok(conn)
        };
        let path = path.to_owned();
        match make() {
            Ok(conn) => Ok((
                Self { conn, path },
                Loaded {
                    boot_id: boot_id.to_owned(),
                    rows: Vec::new(),
                    released: BTreeMap::new(),
                },
            )),
            Err(source) => Err(LedgerError::Sql { path, source }),
        }
    }

    /// Puts `new` where `old` was, in one transaction; `freed` are released in that order, from place `first` on.
    pub(crate) fn swap(
        &mut self,
        old: Option<&Row>,
        new: Option<&Row>,
        freed: &[IpAddr],
        first: u64,
        now: Duration,
    ) -> Result<(), LedgerError> {
        let mut run = || -> Result<(), rusqlite::Error> {
            let tx = self.conn.transaction()?;
            if let Some(AttachmentKey {
                network,
                container_id,
                ifname,
            }) = old.map(|o| &o.key)
            {
                for table in ["addresses", "attachments"] {
                    tx.prepare_cached(&format!(
                        "DELETE FROM {table} WHERE network = ?1 AND container_id = ?2 AND ifname = ?3"
                    ))?
                    .execute([network, container_id, ifname])?;
                }
            }
            for (place, address) in (integer(first)..).zip(freed) {
                tx.prepare_cached("INSERT OR REPLACE INTO released VALUES (?1, ?2, ?3)")?
                    .execute(params![place, address.to_string(), millis(now)])?;
                tx.prepare_cached("DELETE FROM released WHERE place <= ?1")?
                    .execute([place.saturating_sub(integer(MAX_RELEASED))])?;
            }
            if let Some(row) = new {
                insert(&tx, row)?;
            }
            tx.commit()
        };
        run().map_err(|source| LedgerError::Sql {
            path: self.path.clone(),
            source,
        })
    }
}

/// Deletes a file that no longer counts.
pub(crate) fn remove(path: &Path) -> Result<(), LedgerError> {
    for part in parts(path) {
        match std::fs::remove_file(&part) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(at(part, e)),
            _ => {}
        }
    }
    Ok(())
}

/// Moves what is in the way to `<path>.broken`, where somebody may look at it.
pub(crate) fn set_aside(path: &Path) -> Result<(), LedgerError> {
    let mut broken = path.as_os_str().to_owned();
    broken.push(".broken");
    if path.symlink_metadata().is_ok() {
        std::fs::rename(path, &broken).map_err(|e| at(path.to_owned(), e))?;
    }
    remove(path)
}

/// The file and what SQLite puts beside it; a WAL that outlives its file would be replayed into the next.
fn parts(path: &Path) -> impl Iterator<Item = PathBuf> + '_ {
    ["", "-wal", "-shm", "-journal"].into_iter().map(|suffix| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        name.into()
    })
}

fn at(path: PathBuf, source: std::io::Error) -> LedgerError {
    LedgerError::Path { path, source }
}

fn settings(conn: &Connection) -> Result<(), rusqlite::Error> {
    conn.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    conn.pragma_update(None, "synchronous", "OFF")
}

fn insert(conn: &Connection, row: &Row) -> Result<(), rusqlite::Error> {
    let AttachmentKey {
        network,
        container_id,
        ifname,
    } = &row.key;
    let pod = row.pod.as_ref().and_then(|p| serde_json::to_string(p).ok());
    conn.prepare_cached("INSERT INTO attachments VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?
        .execute(params![
            network,
            container_id,
            ifname,
            row.cookie,
            row.state == AttachmentState::Committed,
            pod,
            row.host_ifindex,
            row.deadline.map(millis)
        ])?;
    for address in &row.addresses {
        let address = address.to_string();
        conn.prepare_cached("INSERT INTO addresses VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![address, network, container_id, ifname])?;
        conn.prepare_cached("DELETE FROM released WHERE address = ?1")?
            .execute([address])?;
    }
    Ok(())
}

/// Reads all tables; what does not parse makes the whole file useless, since who knows what else is wrong.
fn load_rows(conn: &Connection) -> Result<Loaded, String> {
    let sql = |e: rusqlite::Error| e.to_string();
    let boot_id = conn
        .query_row("SELECT id FROM boot", [], |row| row.get(0))
        .map_err(sql)?;
    let mut rows: BTreeMap<AttachmentKey, Row> = BTreeMap::new();
    let key = |row: &rusqlite::Row<'_>, first: usize| -> Result<AttachmentKey, rusqlite::Error> {
        Ok(AttachmentKey {
            network: row.get(first)?,
            container_id: row.get(first + 1)?,
            ifname: row.get(first + 2)?,
        })
    };
    let mut statement = conn.prepare("SELECT * FROM attachments").map_err(sql)?;
    let mut found = statement.query([]).map_err(sql)?;
    while let Some(row) = found.next().map_err(sql)? {
        let key = key(row, 0).map_err(sql)?;
        if let Some(problem) = key.problem() {
            return Err(problem);
        }
        let pod: Option<String> = row.get(5).map_err(sql)?;
        let pod = pod.map(|p| serde_json::from_str(&p)).transpose();
        let committed: bool = row.get(4).map_err(sql)?;
        let deadline: Option<i64> = row.get(7).map_err(sql)?;
        let parsed = Row {
            cookie: row.get(3).map_err(sql)?,
            state: if committed {
                AttachmentState::Committed
            } else {
                AttachmentState::Wiring
            },
            pod: pod.map_err(|e| e.to_string())?,
            addresses: Vec::new(),
            host_ifname: host_ifname(&key),
            host_ifindex: row.get(6).map_err(sql)?,
            deadline: deadline.map(duration),
            key,
        };
        rows.insert(parsed.key.clone(), parsed);
    }
    let mut statement = conn.prepare("SELECT * FROM addresses").map_err(sql)?;
    let mut found = statement.query([]).map_err(sql)?;
    while let Some(row) = found.next().map_err(sql)? {
        let text: String = row.get(0).map_err(sql)?;
        let address: IpAddr = text
            .parse()
            .map_err(|_| format!("\"{}\" is not an address", text.escape_default()))?;
        let key = key(row, 1).map_err(sql)?;
        let owner = rows
            .get_mut(&key)
            .ok_or_else(|| format!("{address} belongs to no attachment"))?;
        owner.addresses.push(address);
    }
    for row in rows.values_mut() {
        row.addresses.sort_unstable();
    }
    let mut released = BTreeMap::new();
    let mut statement = conn.prepare("SELECT * FROM released").map_err(sql)?;
    let mut found = statement.query([]).map_err(sql)?;
    while let Some(row) = found.next().map_err(sql)? {
        let text: String = row.get(1).map_err(sql)?;
        let address: IpAddr = text
            .parse()
            .map_err(|_| format!("\"{}\" is not an address", text.escape_default()))?;
        let order: i64 = row.get(0).map_err(sql)?;
        let release = Release {
            order: u64::try_from(order).map_err(|e| e.to_string())?,
            at: duration(row.get(2).map_err(sql)?),
        };
        released.insert(address, release);
    }
    Ok(Loaded {
        boot_id,
        rows: rows.into_values().collect(),
        released,
    })
}

fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

fn duration(millis: i64) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}
