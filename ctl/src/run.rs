//! From arguments to an exit code.

use std::ffi::OsString;
use std::io::{self, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use clap::{CommandFactory, FromArgMatches};
use ipnet::IpNet;
use roadbed_api::Object;
use roadbed_api::agent::{
    ATTACHMENTS, Attachment, AttachmentDetail, AttachmentList, BgpPeer, IPAM, IpamReport,
    NodeStatus, ROUTES, RouteReport, STATUS,
};
use roadbed_api::names::{ROUTER_SOCKET_NAME, SOCKET_NAME};
use roadbed_client::AgentClient;
use roadbed_kube::{Access, KubeStore};
use roadbed_store::{StoreConfig, StoreError};
use serde::Serialize;
use serde_json::json;

use crate::apply::apply;
use crate::bgp::{self, Sides};
use crate::cli::{Bgp, Cli, Command, Delete, Files, Format, Global, Ipam, Kinds, Policy, Shell};
use crate::error::CtlError;
use crate::manifests::{self, Found};
use crate::plan::{self, object_name};
use crate::policy::{self, PolicyTest};
use crate::{render, resources, router_file, store};

/// Characters of a container ID that tell it from others.
const CONTAINER_ID_MIN: usize = 6;
/// How long `version` waits for an agent.
const VERSION_WAIT: Duration = Duration::from_secs(1);

/// Runs one command line: the answer to `out`, problems to `err`. Returns the exit code.
pub fn run<I, T>(args: I, out: &mut dyn Write, err: &mut dyn Write) -> u8
where
    I: IntoIterator<Item = T>,
    T: Into<OsString>,
{
    let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
    let parsed = command(args.first())
        .try_get_matches_from(args.iter())
        .and_then(|m| Cli::from_arg_matches(&m).map(|cli| (cli, name(args.first()))));
    let (cli, name) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => {
            let text = error.render();
            let _ = match error.use_stderr() {
                true => write!(err, "{text}"),
                false => write!(out, "{text}"),
            };
            return u8::try_from(error.exit_code()).unwrap_or(2);
        }
    };
    match dispatch(cli, name, out).and_then(|()| Ok(out.flush()?)) {
        Ok(()) => 0,
        // Whoever reads closed early (`| head`): nothing is wrong.
        Err(CtlError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => 0,
        Err(error) => {
            let _ = writeln!(err, "{error}");
            error.exit_code()
        }
    }
}

/// What the program is called in its help: `kubectl roadbed` under the name that kubectl looks for.
fn name(argv0: Option<&OsString>) -> &'static str {
    let file = argv0.and_then(|a| Path::new(a).file_name());
    match file.is_some_and(|f| f.to_string_lossy().starts_with("kubectl-roadbed")) {
        true => "kubectl roadbed",
        false => "roadbedctl",
    }
}

/// The commands under the program's name.
pub fn command(argv0: Option<&OsString>) -> clap::Command {
    Cli::command().bin_name(name(argv0))
}

fn dispatch(cli: Cli, name: &str, out: &mut dyn Write) -> Result<(), CtlError> {
    let global = cli.global;
    match cli.command {
        Command::Status => status(&global, out),
        Command::Ipam(Ipam::Show { blocks, addresses }) => ipam(&global, blocks, addresses, out),
        Command::Routes { prefix } => routes(&global, prefix, out),
        Command::Bgp(Bgp::Peers) => bgp_peers(&global, out),
        Command::Bgp(Bgp::Peer { name }) => bgp_peer(&global, &name, out),
        Command::Bgp(Bgp::Rib { sides }) => bgp_routes(&global, None, &sides, out),
        Command::Bgp(Bgp::Routes { prefix, sides }) => {
            bgp_routes(&global, Some(prefix), &sides, out)
        }
        Command::Bgp(Bgp::Bmp) => bgp_stations(&global, out),
        Command::Bgp(Bgp::Dump { file }) => bgp_dump(&global, &file, out),
        Command::Bgp(Bgp::Policy(Policy::Test(what))) => policy_test(&global, &what, out),
        Command::Pods => pods(&global, out),
        Command::Pod { name } => pod(&global, &name, out),
        Command::Apply { files, dry_run } => apply_files(&global, &files, dry_run, out),
        Command::Get { kind, name } => get(&global, kind, name.as_deref(), out),
        Command::Delete(what) => delete(&global, &what, out),
        Command::Validate { files } => validate(&global, &files, out),
        Command::Completion { shell } => completion(shell, name, out),
        Command::Version => version(&global, out),
    }
}

fn agent(global: &Global) -> AgentClient {
    let [agent, router] = [SOCKET_NAME, ROUTER_SOCKET_NAME].map(|name| global.run_dir.join(name));
    // A stopped agent leaves its socket. One that cannot be asked for another reason is there all the same.
    let away = [ErrorKind::NotFound, ErrorKind::ConnectionRefused];
    let is_router = router.exists()
        && UnixStream::connect(&agent).is_err_and(|error| away.contains(&error.kind()));
    AgentClient::new(if is_router { router } else { agent })
}

/// Prints a report: complete as JSON or YAML, else as `table` or `names` make it.
fn show<T: Serialize>(
    format: Format,
    report: &T,
    table: impl FnOnce(bool) -> String,
    names: impl FnOnce() -> Vec<String>,
    out: &mut dyn Write,
) -> Result<(), CtlError> {
    let text = match format {
        Format::Table => table(false),
        Format::Wide => table(true),
        Format::Json => render::json(report),
        Format::Yaml => render::yaml(report),
        Format::Name => names().iter().map(|n| format!("{n}\n")).collect(),
    };
    Ok(out.write_all(text.as_bytes())?)
}

fn status(global: &Global, out: &mut dyn Write) -> Result<(), CtlError> {
    let node: NodeStatus = agent(global).get(STATUS)?;
    let names = || {
        node.peers
            .iter()
            .map(|p| format!("bgppeer/{}", p.name))
            .collect()
    };
    show(
        global.output,
        &node,
        |wide| render::status(&node, wide),
        names,
        out,
    )
}

fn ipam(
    global: &Global,
    blocks: bool,
    addresses: bool,
    out: &mut dyn Write,
) -> Result<(), CtlError> {
    let agent = agent(global);
    let all = !blocks && !addresses;
    let report: IpamReport = agent.get(IPAM)?;
    let attachments = match all || addresses {
        true => Some(agent.get::<AttachmentList>(ATTACHMENTS)?.attachments),
        false => None,
    };
    let view = render::IpamView {
        node: report.node,
        pools: all.then_some(report.pools),
        blocks: (all || blocks).then_some(report.blocks),
        attachments,
    };
    let names = || {
        let pools = view
            .pools
            .iter()
            .flatten()
            .map(|p| format!("ippool/{}", p.name));
        let blocks = view.blocks.iter().flatten();
        let blocks = blocks.map(|b| format!("ipblock/{}", roadbed_api::kinds::block_name(&b.cidr)));
        let addresses = view.attachments.iter().flatten().flat_map(|a| &a.addresses);
        pools
            .chain(blocks)
            .chain(addresses.map(ToString::to_string))
            .collect()
    };
    show(
        global.output,
        &view,
        |wide| render::ipam(&view, wide),
        names,
        out,
    )
}

fn routes(global: &Global, prefix: Option<IpNet>, out: &mut dyn Write) -> Result<(), CtlError> {
    let mut report: RouteReport = agent(global).get(ROUTES)?;
    if let Some(wanted) = prefix {
        let near = |p: &IpNet| wanted.contains(p) || p.contains(&wanted);
        report.routes.retain(|r| near(&r.prefix));
        if report.routes.is_empty() {
            return Err(CtlError::Nothing(format!(
                "{} has no route inside or around {wanted}",
                report.node
            )));
        }
    }
    let names = || {
        let mut names: Vec<String> = report.routes.iter().map(|r| r.prefix.to_string()).collect();
        names.dedup();
        names
    };
    show(
        global.output,
        &report,
        |wide| render::routes(&report.routes, wide),
        names,
        out,
    )
}

fn bgp_peers(global: &Global, out: &mut dyn Write) -> Result<(), CtlError> {
    let report = bgp::peers(&agent(global))?;
    let name = |p: &BgpPeer| format!("bgppeer/{}", p.report.name);
    show(
        global.output,
        &report,
        |wide| render::bgp_peers(&report.peers, wide),
        || report.peers.iter().map(name).collect(),
        out,
    )
}

fn bgp_peer(global: &Global, name: &str, out: &mut dyn Write) -> Result<(), CtlError> {
    let peer = bgp::peer(&agent(global), name)?;
    let names = || vec![format!("bgppeer/{}", peer.report.name)];
    show(
        global.output,
        &peer,
        |_| render::bgp_peer(&peer),
        names,
        out,
    )
}

fn bgp_routes(
    global: &Global,
    prefix: Option<IpNet>,
    sides: &Sides,
    out: &mut dyn Write,
) -> Result<(), CtlError> {
    let report = bgp::routes(&agent(global), prefix, sides)?;
    let names = || {
        let mut names: Vec<String> = report.routes.iter().map(|r| r.prefix.to_string()).collect();
        names.dedup();
        names
    };
    show(
        global.output,
        &report,
        |wide| render::bgp_routes(&report.routes, sides.side(), wide),
        names,
        out,
    )
}

fn bgp_stations(global: &Global, out: &mut dyn Write) -> Result<(), CtlError> {
    let report = bgp::stations(&agent(global))?;
    let names = || report.stations.iter().map(|s| s.name.clone()).collect();
    show(
        global.output,
        &report,
        |wide| render::bmp_stations(&report.stations, wide),
        names,
        out,
    )
}

fn bgp_dump(global: &Global, file: &Path, out: &mut dyn Write) -> Result<(), CtlError> {
    let octets = bgp::dump(&agent(global), file)?;
    let path = file.display().to_string();
    let table = |_| format!("{path}: {octets} octets\n");
    show(
        global.output,
        &json!({"file": path, "octets": octets}),
        table,
        || vec![path.clone()],
        out,
    )
}

fn pods(global: &Global, out: &mut dyn Write) -> Result<(), CtlError> {
    let list: AttachmentList = agent(global).get(ATTACHMENTS)?;
    let names = || {
        let keys = list.attachments.iter().map(|a| &a.key);
        keys.map(|k| format!("{}/{}/{}", k.network, k.container_id, k.ifname))
            .collect()
    };
    let table = |wide| render::attachments(&list.attachments, wide);
    show(global.output, &list, table, names, out)
}

fn pod(global: &Global, name: &str, out: &mut dyn Write) -> Result<(), CtlError> {
    let agent = agent(global);
    let list: AttachmentList = agent.get(ATTACHMENTS)?;
    let mut found: Vec<AttachmentDetail> = Vec::new();
    for attachment in list.attachments.iter().filter(|a| is_called(a, name)) {
        found.push(agent.get(&attachment.key.path())?);
    }
    if found.is_empty() {
        let name = name.escape_debug();
        return Err(CtlError::Nothing(format!(
            "no attachment of this node is called \"{name}\": roadbedctl pods lists all"
        )));
    }
    let names = || {
        found
            .iter()
            .map(|d| d.attachment.host_ifname.clone())
            .collect()
    };
    show(global.output, &found, |_| render::pod(&found), names, out)?;
    match found.iter().map(|detail| detail.problems.len()).sum() {
        0 => Ok(()),
        count => Err(CtlError::Ailing(count)),
    }
}

/// By the pod's name, its container, its host interface or its address.
fn is_called(attachment: &Attachment, name: &str) -> bool {
    let pod = attachment.pod.as_ref().is_some_and(|pod| {
        pod.name == name || name.split_once('/') == Some((&pod.namespace, &pod.name))
    });
    let container = name.len() >= CONTAINER_ID_MIN.min(attachment.key.container_id.len());
    pod || (container && attachment.key.container_id.starts_with(name))
        || attachment.host_ifname == name
        || attachment.addresses.iter().any(|a| a.to_string() == name)
}

fn policy_test(global: &Global, what: &PolicyTest, out: &mut dyn Write) -> Result<(), CtlError> {
    let objects = match what.file.is_empty() {
        false => {
            let of_router = |path: &std::path::PathBuf| router_file::is_router_file(path);
            let (routers, others): (Vec<_>, Vec<_>) =
                what.file.iter().cloned().partition(of_router);
            if routers.len() > 1 {
                let said = "more than one router's file: name the one that the policies are from";
                return Err(CtlError::Usage(said.to_owned()));
            }
            let mut objects = Vec::new();
            for path in routers {
                objects.extend(router_file::load(&path)?);
            }
            if !others.is_empty() {
                let found = manifests::load(&others, &mut io::stdin().lock())?;
                objects.extend(found.into_iter().map(|f| f.object));
            }
            objects
        }
        true => {
            let config = store::config(global)?;
            wait(async {
                let store = store::open(&config).await?;
                resources::get(&*store, &policy::KINDS, None).await
            })?
        }
    };
    let report = policy::test(what, &objects)?;
    let table = |_| policy::table(&report);
    let names = || vec![report.decision.to_owned()];
    show(global.output, &report, table, names, out)
}

fn wait<T>(work: impl Future<Output = Result<T, CtlError>>) -> Result<T, CtlError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(work)
}

fn apply_files(
    global: &Global,
    files: &Files,
    dry_run: bool,
    out: &mut dyn Write,
) -> Result<(), CtlError> {
    let wanted = manifests::load(&files.file, &mut io::stdin().lock())?;
    let config = store::config(global)?;
    let mut written = Ok(());
    let mut report = |object: &Object, change: plan::Change| {
        let name = object_name(object);
        let line = match (global.output, dry_run) {
            (Format::Name, _) => writeln!(out, "{name}"),
            (_, true) => writeln!(out, "{name} {} (dry run)", change.as_str()),
            (_, false) => writeln!(out, "{name} {}", change.as_str()),
        };
        if written.is_ok() {
            written = line;
        }
    };
    wait(async {
        let store = store::open_to_fill(&config, dry_run).await?;
        apply(&*store, &wanted, dry_run, &mut report).await
    })?;
    Ok(written?)
}

fn get(
    global: &Global,
    kinds: Kinds,
    name: Option<&str>,
    out: &mut dyn Write,
) -> Result<(), CtlError> {
    let config = store::config(global)?;
    let objects = wait(async {
        let store = store::open(&config).await?;
        resources::get(&*store, &kinds.list(), name).await
    })?;
    let text = match global.output {
        Format::Table => render::resources(&objects, false, jiff::Timestamp::now()),
        Format::Wide => render::resources(&objects, true, jiff::Timestamp::now()),
        Format::Json => render::json(&render::resources_json(&objects, name.is_some())),
        Format::Yaml => render::resources_yaml(&objects),
        Format::Name => render::names(&objects),
    };
    Ok(out.write_all(text.as_bytes())?)
}

fn delete(global: &Global, what: &Delete, out: &mut dyn Write) -> Result<(), CtlError> {
    let mut targets = Vec::new();
    if let (Some(kind), Some(name)) = (what.kind, &what.name) {
        targets.push((kind, name.clone()));
    } else {
        // What refers to others goes before what it refers to.
        let found = manifests::load(&what.file, &mut io::stdin().lock())?;
        let names = found.into_iter().rev().map(|f| f.object);
        targets.extend(names.map(|o| (o.kind, o.metadata.name)));
    }
    let config = store::config(global)?;
    wait(async {
        let store = store::open(&config).await?;
        let mut failures = Vec::new();
        for (kind, name) in targets {
            let shown = format!("{}/{name}", kind.as_str().to_ascii_lowercase());
            match resources::delete(&*store, kind, &name, what.force).await {
                Ok(true) if global.output == Format::Name => writeln!(out, "{shown}")?,
                Ok(true) => writeln!(out, "{shown} deleted")?,
                Ok(false) if what.ignore_not_found => {}
                Ok(false) => failures.push(
                    CtlError::NotFound {
                        kind,
                        name,
                        home: store.home(),
                    }
                    .to_string(),
                ),
                Err(CtlError::Store(error)) if error.is_away() => return Err(error.into()),
                Err(error) => failures.push(error.to_string()),
            }
        }
        match failures.is_empty() {
            true => Ok(()),
            false => Err(CtlError::Incomplete(failures)),
        }
    })
}

fn validate(global: &Global, files: &Files, out: &mut dyn Write) -> Result<(), CtlError> {
    let found = manifests::load(&files.file, &mut io::stdin().lock())?;
    let objections = plan::objections(&found, &[]);
    if !objections.is_empty() {
        return Err(CtlError::Refused(objections));
    }
    check_with_server(global, &found)?;
    for Found { object, .. } in &found {
        match global.output {
            Format::Name => writeln!(out, "{}", object_name(object))?,
            _ => writeln!(out, "{} valid", object_name(object))?,
        }
    }
    Ok(())
}

/// Asks the API server what it would say of the manifests. One that was not asked for by name may be away.
fn check_with_server(global: &Global, found: &[Found]) -> Result<(), CtlError> {
    let Ok(StoreConfig::Kubernetes(cluster)) = store::config(global) else {
        return Ok(());
    };
    let named = global.store.is_some();
    wait(async {
        let server = match Access::new(&cluster).await {
            Ok(access) => KubeStore::new(access),
            Err(_) if !named => return Ok(()),
            Err(error) => return Err(CtlError::Usage(error.to_string())),
        };
        let mut refused = Vec::new();
        for Found { object, origin } in found {
            match server.dry_run(object).await {
                Ok(()) => {}
                Err(error @ StoreError::Invalid(_)) => refused.push(format!("{origin}: {error}")),
                // A server that is only there by chance may be away, or refuse us.
                Err(_) if !named => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        match refused.is_empty() {
            true => Ok(()),
            false => Err(CtlError::Refused(refused)),
        }
    })
}

fn completion(shell: Shell, name: &str, out: &mut dyn Write) -> Result<(), CtlError> {
    let shell = match shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    let file = name.replace(' ', "-");
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), file, &mut script);
    Ok(out.write_all(&script)?)
}

fn version(global: &Global, out: &mut dyn Write) -> Result<(), CtlError> {
    let agent = agent(global)
        .with_timeout(VERSION_WAIT)
        .get::<NodeStatus>(STATUS);
    let agent = agent.ok().map(|node| node.version);
    let own = env!("CARGO_PKG_VERSION");
    let table = |_| {
        let agent = agent.as_deref().unwrap_or("none answers");
        format!("roadbedctl  {own}\nagent       {agent}\n")
    };
    let names = || vec![format!("roadbedctl/{own}")];
    show(
        global.output,
        &json!({"client": own, "agent": agent}),
        table,
        names,
        out,
    )
}
