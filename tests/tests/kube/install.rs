//! From nothing to Ready nodes, with two commands.

use std::path::Path;
use std::time::Instant;

use anyhow::ensure;
use roadbed_tests::kube::{Cluster, PATIENCE, SYSTEM};
use roadbed_tests::wait::eventually;

/// The folder of the repository.
fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The manifests with the image of `make image`, and, as kube-proxy is started last, the API server's own address.
fn overlay(dir: &Path) -> String {
    let image = std::env::var("ROADBED_IMAGE").unwrap_or_else(|_| "localhost/roadbed:0.1.0".into());
    let (name, tag) = image.rsplit_once(':').unwrap();
    let manifests = repository().join("deploy/manifests");
    let up = "../".repeat(dir.components().count() - 1);
    let api_server = std::env::var("ROADBED_API_SERVER").unwrap_or_default();
    format!(
        "apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [{up}{}]
images: [{{name: localhost/roadbed, newName: {name}, newTag: \"{tag}\"}}]
configMapGenerator:
- name: roadbed-env
  namespace: roadbed-system
  literals: [\"ROADBED_API_SERVER={api_server}\"]
generatorOptions: {{disableNameSuffixHash: true}}
",
        manifests.strip_prefix("/").unwrap().display()
    )
}

#[test]
fn two_commands_make_the_nodes_ready() {
    let cluster = Cluster::attach();
    if cluster.kubectl(&["get", "namespace", SYSTEM]).is_ok() {
        println!("NOT RUN: Roadbed is installed already");
        return;
    }
    let nodes = cluster.nodes().unwrap();
    if cluster.is_bed() {
        assert!(
            cluster.ready().unwrap().values().all(|ready| !ready),
            "a network is there already"
        );
    }

    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("kustomization.yaml"), overlay(dir.path())).unwrap();
    let begin = Instant::now();
    let applied = cluster
        .kubectl(&["apply", "-k", dir.path().to_str().unwrap()])
        .unwrap();
    println!("$ kubectl apply -k deploy/manifests\n{applied}");

    // Without a pool no pod can start. That is said, and no node claims to be Ready.
    for node in &nodes {
        eventually(PATIENCE, "the agent waits for a pool", || {
            let waiting = cluster.condition(node, "Ready")?;
            ensure!(
                waiting == Some(("False".into(), "an IPPool that this node may use".into())),
                "{waiting:?}"
            );
            Ok(())
        });
    }
    println!("agents answer after {:.1} s", begin.elapsed().as_secs_f64());
    if cluster.is_bed() {
        assert!(cluster.ready().unwrap().values().all(|ready| !ready));
    }
    let agents = cluster
        .get(&["daemonset", "-n", SYSTEM, "roadbed-agent"])
        .unwrap();
    assert_eq!(agents["status"]["numberReady"], 0, "{}", agents["status"]);

    let pools = repository().join("deploy/samples/pools.yaml");
    let begin = Instant::now();
    let applied = cluster
        .kubectl(&["apply", "-f", pools.to_str().unwrap()])
        .unwrap();
    println!("$ kubectl apply -f deploy/samples/pools.yaml\n{applied}");
    cluster.settle();
    println!(
        "nodes and agents ready after {:.1} s",
        begin.elapsed().as_secs_f64()
    );

    // The agents needed no kube-proxy.
    if cluster.is_bed() {
        let names: Vec<&str> = nodes.iter().map(String::as_str).collect();
        cluster
            .drive(&[&["proxy", "start"], names.as_slice()].concat())
            .unwrap();
        let dns = [
            "rollout",
            "status",
            "-n",
            "kube-system",
            "deployment/coredns",
            "--timeout=90s",
        ];
        cluster.kubectl(&dns).unwrap();
    }
    for args in [
        ["get", "nodes", "-o", "wide"].as_slice(),
        &["get", "roadbed"],
    ] {
        println!(
            "$ kubectl {}\n{}",
            args.join(" "),
            cluster.kubectl(args).unwrap()
        );
    }
}
